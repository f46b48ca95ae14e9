// Places that cannot be used: no permission, a port in use, a second daemon, a stale lock, a full disk.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { makeGate } from '../../crash/lib/gate.mjs';
import { CLI } from '../../crash/lib/sandbox.mjs';
import { until } from '../../crash/lib/wait.mjs';
import {
  expect,
  expectDelivered,
  expectError,
  Lacking,
  putLines,
  routeStatus,
  runningGate,
  serve,
} from '../lib/case.mjs';

const NOBODY = '65534';
const DISK_BYTES = 48 * 1024 * 1024;

const asNobody = (args) => ['setpriv', ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups', ...args]];

function run(command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Lacking(`${command} does not work here: ${error?.message ?? stderr.trim()}`);
}

/** A small ext4 file system of its own below the sandbox. */
function smallDisk(sandbox) {
  if (process.getuid() !== 0) throw new Lacking('needs root, to mount a small disk');
  const image = sandbox.path('disk.img');
  const mount = sandbox.path('disk');
  fs.mkdirSync(mount);
  fs.closeSync(fs.openSync(image, 'w'));
  fs.truncateSync(image, DISK_BYTES);
  run('mkfs.ext4', '-q', '-m', '0', '-O', '^has_journal', image);
  run('mount', '-o', 'loop', image, mount);
  sandbox.undo(() => {
    const { status, stderr } = spawnSync('umount', [mount], { encoding: 'utf8' });
    if (status !== 0) {
      spawnSync('umount', ['-l', mount]);
      throw new Error(stderr);
    }
  });
  return mount;
}

/** Fills a file system to its last block; returns what to call to free it again. */
function fill(mount) {
  const file = path.join(mount, 'filler');
  const descriptor = fs.openSync(file, 'w');
  for (let size = 1 << 20; size >= 4096; ) {
    try {
      if (fs.writeSync(descriptor, Buffer.alloc(size)) < size) size >>= 1;
    } catch (error) {
      if (error.code !== 'ENOSPC') throw error;
      size >>= 1;
    }
  }
  fs.closeSync(descriptor);
  return () => fs.rmSync(file);
}

export const cases = [
  {
    title: 'place: a data directory without permission',
    async run(sandbox) {
      if (process.getuid() !== 0) throw new Lacking('needs root, to become somebody else');
      const gate = await makeGate(sandbox, { routes: { access: { sink: 'file', path: 'access.log' } } });
      fs.chmodSync(sandbox.dir, 0o755);
      fs.chmodSync(gate.config, 0o644);
      fs.mkdirSync(gate.dataDir, { mode: 0o700 });
      const [command, args] = asNobody([process.execPath, CLI]);
      const probe = await sandbox.run(command, [...args, '--version']);
      if (probe.code !== 0)
        throw new Lacking(`user ${NOBODY} cannot run the command here: ${probe.stderr.trim().split('\n')[0]}`);
      const outcome = await sandbox.run(command, [...args, 'serve', '--config', gate.config], { timeoutMs: 15_000 });
      expectError(outcome, { code: 'ERR_ELGATE_PERMISSION_DENIED', words: [new RegExp(gate.dataDir)] });
      expect(fs.readdirSync(gate.dataDir).length === 0, 'something was written all the same');
    },
  },
  {
    title: 'place: the admin port is in use',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 20);
      await gate.daemon.stop();
      const [host, port] = gate.admin.split(':');
      const squatter = net.createServer();
      await new Promise((resolve) => squatter.listen(Number(port), host, resolve));
      try {
        const outcome = await serve(sandbox, gate.config);
        expectError(outcome, { code: 'ERR_ELGATE_ADDRESS_IN_USE', words: [new RegExp(gate.admin), /--admin/] });
      } finally {
        squatter.close();
      }
      await gate.daemon.start().ready();
      await putLines(sandbox, gate, 20);
      await expectDelivered(gate);
    },
  },
  {
    title: 'place: a second daemon on the same data directory',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 20);
      const second = sandbox.write(
        'second.toml',
        fs
          .readFileSync(gate.config, 'utf8')
          .replace(sandbox.ring, `${sandbox.ring}.second`)
          .replace(gate.admin, '127.0.0.1:0'),
      );
      const outcome = await serve(sandbox, second);
      expectError(outcome, { code: 'ERR_ELGATE_IN_USE', words: [new RegExp(gate.dataDir)] });
      await putLines(sandbox, gate, 20);
      await expectDelivered(gate);
    },
  },
  {
    title: 'place: a second daemon on the same ring',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 20);
      const second = sandbox.write(
        'second.toml',
        fs
          .readFileSync(gate.config, 'utf8')
          .replace(gate.dataDir, `${gate.dataDir}-second`)
          .replace(gate.admin, '127.0.0.1:0'),
      );
      const outcome = await serve(sandbox, second);
      expectError(outcome, { code: 'ERR_ELGATE_IN_USE', words: [new RegExp(sandbox.ring)] });
      await putLines(sandbox, gate, 20);
      await expectDelivered(gate);
    },
  },
  {
    title: 'place: locks of a killed daemon are stale, and hold nobody up',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 20);
      await gate.daemon.kill();
      expect(fs.existsSync(path.join(gate.dataDir, '.lock')), 'there is no lock file: this case proves nothing');
      await gate.daemon.start().ready();
      await putLines(sandbox, gate, 20);
      await expectDelivered(gate);
    },
  },
  {
    title: 'place: a full disk parks the route, and it resumes by itself',
    async run(sandbox) {
      const mount = smallDisk(sandbox);
      const gate = await makeGate(sandbox, {
        routes: { access: { sink: 'file', path: 'access.log', segment_bytes: 4 << 20 } },
      });
      const settings = fs.readFileSync(gate.config, 'utf8').replace(gate.dataDir, path.join(mount, 'data'));
      fs.writeFileSync(gate.config, settings);
      gate.dataDir = path.join(mount, 'data');
      await gate.daemon.start().ready();
      await putLines(sandbox, gate, 100);
      const free = fill(mount);
      // More than the segments at hand can take: the log comes to its end on a full disk.
      const line = 'z'.repeat(100_000);
      const many = Array.from({ length: 300 }, (_, index) => `${index} ${line}`);
      const put = sandbox.spawn(process.execPath, [CLI, 'put', 'access', '--json', '--config', gate.config], {
        stdio: ['pipe', 'pipe', 'log'],
        log: 'put.log',
      });
      put.stdin.on('error', () => {});
      const out = [];
      put.stdout.on('data', (chunk) => out.push(chunk));
      put.stdin.end(`${many.join('\n')}\n`);
      const row = await until(
        'the route to be parked',
        async () => {
          const status = await routeStatus(gate, 'access');
          return status.state === 'parked' ? status : undefined;
        },
        { everyMs: 20, abort: () => gate.daemon.deathReason() },
      );
      expect(
        row.last_error?.code === 'ERR_ELGATE_LOG_UNAVAILABLE',
        `status does not say why: ${JSON.stringify(row.last_error)}`,
      );
      expect(/space/i.test(row.last_error.message), `status does not name the space: ${row.last_error.message}`);
      free();
      const { code } = await put.ended;
      const text = Buffer.concat(out).toString().trim().split('\n').at(-1);
      // Either the put waited for the space and all is durable, or it failed aloud.
      if (code === 0) expect(JSON.parse(text).acked === many.length, text);
      else
        expect(
          /ERR_ELGATE_(LOG_UNAVAILABLE|TIMEOUT)/.test(sandbox.tailOf('put.log')),
          `put ended silently: ${sandbox.tailOf('put.log')}`,
        );
      await until('the route to run again', async () => (await routeStatus(gate, 'access')).state === 'running', {
        everyMs: 20,
      });
      const before = gate.expected.access;
      gate.expected = {};
      const after = await putLines(sandbox, gate, 50);
      await gate.drained(['access']);
      const lines = fs.readFileSync(gate.outputOf('access'), 'utf8').trimEnd().split('\n');
      const middle = lines.slice(before.length, lines.length - after.length);
      expect(lines.slice(0, before.length).join() === before.join(), 'records from before are missing or damaged');
      expect(lines.slice(-after.length).join() === after.join(), 'records from afterwards are missing or damaged');
      const numbers = middle.map((entry) => many.indexOf(entry));
      expect(
        numbers.every((number, index) => number > (numbers[index - 1] ?? -1)),
        `not in order, or twice: ${numbers}`,
      );
      expect(
        code !== 0 || middle.length === many.length,
        `${middle.length} of ${many.length} acknowledged records are there`,
      );
    },
  },
];
