// What README.md shows works: its commands and its program run, in order, against a daemon with the
// sample configuration. (`npm start` and `npm test` are the two blocks that are not marked `sh`.)

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import test, { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```(sh|js)\n(.*?)^```$/gms)].map(([, language, code]) => ({ language, code }));

const START_SECONDS_MAX = 30;
const COMMAND_SECONDS_MAX = 60;

/** A directory as the clone is to a user: the sample configuration, and packages to be found. */
mkdirSync(join(root, '.cache'), { recursive: true });
const world = mkdtempSync(join(root, '.cache/readme-'));
copyFileSync(join(root, 'elgate.toml'), join(world, 'elgate.toml'));
symlinkSync(join(root, 'node_modules'), join(world, 'node_modules'));

/** Names of its own, so that a daemon of the user's is left alone. */
const env = { ...process.env, ELGATE_RING: `/dev/shm/elgate-readme-${process.pid}` };
let daemon;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function ready(address) {
  const end = performance.now() + START_SECONDS_MAX * 1000;
  for (;;) {
    const answer = await fetch(`http://${address}/readyz`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return;
    assert.equal(daemon.exitCode, null, 'the daemon ended');
    assert.ok(performance.now() < end, `the daemon is not ready after ${START_SECONDS_MAX} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

before(async () => {
  env.ELGATE_ADMIN = `127.0.0.1:${await freePort()}`;
  daemon = spawn('npx', ['--no-install', 'elgate', 'serve', '--config', 'elgate.toml'], {
    cwd: world,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  await ready(env.ELGATE_ADMIN);
});

after(async () => {
  if (daemon?.exitCode === null) {
    const ended = once(daemon, 'exit');
    process.kill(-daemon.pid, 'SIGTERM');
    await ended;
  }
  rmSync(world, { recursive: true, force: true });
  const ring = basename(env.ELGATE_RING);
  for (const name of readdirSync('/dev/shm')) {
    if (name === ring || name.startsWith(`${ring}.`)) rmSync(join('/dev/shm', name));
  }
});

function execute({ language, code }) {
  const program = join(world, 'program.mjs');
  if (language === 'js') writeFileSync(program, code);
  const [command, args] =
    language === 'js' ? [process.execPath, [program]] : ['bash', ['-euo', 'pipefail', '-c', code]];
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: world,
    env,
    encoding: 'utf8',
    timeout: COMMAND_SECONDS_MAX * 1000,
  });
  assert.equal(status, 0, `${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/** What a block must print, where README says something about it. */
const EXPECTED = {
  'tail access': /1000\s*$/,
  'wait delivered': /one more\s*$/,
  'elgate status': /access/,
  'import { Elgate }': /^durable true$/m,
};

test('README shows something to try', () => {
  assert.ok(blocks.length >= 5);
  for (const sign of Object.keys(EXPECTED)) {
    assert.ok(
      blocks.some(({ code }) => code.includes(sign)),
      `no block has '${sign}'`,
    );
  }
});

/** Set where a confinement leaves only one backend: it proves that the confinement is there. */
const { EXPECTED_BACKEND } = process.env;
test('the daemon runs on the backend that is to be had here', async (context) => {
  const { shards } = await (await fetch(`http://${env.ELGATE_ADMIN}/info`)).json();
  const backends = [...new Set(shards.map(({ backend }) => backend))];
  context.diagnostic(`backend ${backends.join(', ')}`);
  if (EXPECTED_BACKEND) assert.deepEqual(backends, [EXPECTED_BACKEND]);
});

for (const block of blocks) {
  test(block.code.split('\n')[0], () => {
    const output = execute(block);
    for (const [sign, pattern] of Object.entries(EXPECTED)) {
      if (block.code.includes(sign)) assert.match(output, pattern);
    }
  });
}
