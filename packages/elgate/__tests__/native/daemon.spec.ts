import { readFileSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { callControl } from '../../src/control/client.js';
import { Elgate } from '../../src/index.js';
import type { EngineStatus } from '../../src/native/binding.js';
import { type Outcome, type Running, run, start } from '../support/cli.js';
import { nativeTest, segmentBytes } from '../support/native.js';
import { scratch } from '../support/scratch.js';

const LINES = 20_000;
const input = Array.from({ length: LINES }, (_, index) => `${index} ${'x'.repeat(index % 200)}\n`).join('');

class Service {
  daemon: Running;
  url = '';

  constructor(
    readonly t: ExecutionContext,
    readonly home: string,
  ) {
    writeFileSync(
      join(home, 'elgate.toml'),
      `data_dir = "data"\n[ring]\npath = "${home}/ring"\n[admin]\nlisten = "127.0.0.1:0"\n` +
        `[routes.access]\nsink = "file"\npath = "out/access.log"\nsegment_bytes = ${segmentBytes}\n`,
    );
    writeFileSync(join(home, 'input'), input);
    this.daemon = start(['serve'], { cwd: home });
    t.teardown(() => this.daemon.kill('SIGKILL'));
  }

  async ready(): Promise<this> {
    await this.daemon.printed(/route +access/);
    this.url = /control +(\S+)/.exec(this.daemon.stdout)?.[1] as string;
    return this;
  }

  async restart(): Promise<void> {
    this.daemon.kill('SIGKILL');
    await this.daemon.ended;
    this.daemon = start(['serve'], { cwd: this.home });
    await this.ready();
  }

  run(...args: string[]): Promise<Outcome> {
    return run(args, { cwd: this.home });
  }

  /** Resolves when the log has so many records. */
  async appended(records: number): Promise<void> {
    for (;;) {
      const status = await callControl<EngineStatus>({ url: this.url, token: null }, 'GET', '/status');
      if ((status.routes[0]?.durable_lsn ?? 0) >= records) return;
    }
  }

  get output(): string {
    return readFileSync(join(this.home, 'out/access.log'), 'latin1');
  }
}

async function serve(t: ExecutionContext): Promise<Service> {
  return new Service(t, scratch(t)).ready();
}

nativeTest('put, tail, status, inspect; SIGTERM drains', async (t) => {
  const service = await serve(t);
  const put = await service.run('put', 'access', 'input', '--json', '--wait', 'delivered');
  t.is(put.code, 0, put.stderr);
  const { sent, acked, level } = JSON.parse(put.stdout);
  t.deepEqual([sent, acked, level], [LINES, LINES, 'delivered']);
  t.is(service.output, input);

  const tail = await service.run('tail', 'access', '--from', 'start');
  t.is(tail.stdout, input);
  const [one] = (await service.run('tail', 'access', '--from', String(LINES), '--json')).stdout.split('\n');
  t.like(JSON.parse(one as string), { lsn: LINES, data: input.trimEnd().split('\n').pop() as string });
  t.regex((await service.run('inspect', 'access')).stdout, /durable 20,000[\s\S]*access-\d{8}-001\.wal/);

  const admin = service.url.replace('http://', '');
  const status = JSON.parse((await service.run('status', '--json', '--admin', admin)).stdout) as EngineStatus;
  t.like(status.routes[0], { name: 'access', durable_lsn: LINES, delivered_lsn: LINES, state: 'running' });
  t.true(status.memory.length > 0);
  const metrics = await fetch(`${service.url}/metrics`);
  t.regex(await metrics.text(), /elgate_appended_records_total\{route="access"\} 20000\n/);

  service.daemon.kill('SIGTERM');
  const ended = await service.daemon.ended;
  t.is(ended.code, 0, ended.stderr);
  t.regex(ended.stdout, /stopped; everything is delivered/);
  t.is((await service.run('tail', 'access', '--from', 'start')).stdout, input, 'offline too');
});

nativeTest('put outlives kills of the daemon; the file is the input', async (t) => {
  const service = await serve(t);
  const put = start(['put', 'access', '--json', '--wait', 'delivered'], { cwd: service.home, stdin: { open: true } });
  const quarter = Math.ceil(input.length / 4);
  for (let at = 0; at < input.length; at += quarter) {
    put.child.stdin?.write(input.slice(at, at + quarter));
    // The first part arrived: put is connected, and will outlive what comes.
    if (at === 0) await service.appended(1);
    else await service.restart();
  }
  put.child.stdin?.end();
  const { code, stdout, stderr } = await put.ended;
  t.is(code, 0, stderr);
  t.is(JSON.parse(stdout).acked, LINES);
  t.is(service.output, input);
});

nativeTest('a connected gate: append, post, tail, an unknown route', async (t) => {
  const service = await serve(t);
  const gate = await Elgate.connect({ config: join(service.home, 'elgate.toml') });
  t.is((await gate.route('access').append('one', { wait: 'delivered' })).level, 'delivered');
  t.true(gate.route('access').post('two'));
  t.is((await gate.route('access').append('three')).lsn, 3);
  const texts: string[] = [];
  for await (const record of gate.tail('access', { from: 'start' })) {
    texts.push(record.text());
    if (texts.length === 3) break;
  }
  t.deepEqual(texts, ['one', 'two', 'three']);
  await t.throwsAsync(gate.route('nobody').append('x'), { code: 'ERR_ELGATE_ROUTE_UNKNOWN' });
  await gate.close();
});

nativeTest('an append under way survives the death of the daemon', async (t) => {
  const service = await serve(t);
  const gate = await Elgate.connect({ config: join(service.home, 'elgate.toml') });
  const access = gate.route('access');
  t.is((await access.append('1')).lsn, 1);
  service.daemon.kill('SIGKILL');
  await service.daemon.ended;
  const waiting = Promise.all(['2', '3'].map((data) => access.append(data)));
  await service.restart();
  t.deepEqual(
    (await waiting).map(({ lsn }) => lsn),
    [2, 3],
  );
  await gate.close();
});

nativeTest('SIGHUP adds a route to the running daemon; the API adds one that stays', async (t) => {
  const service = await serve(t);
  const file = join(service.home, 'elgate.toml');
  writeFileSync(file, `${readFileSync(file, 'utf8')}[routes.more]\nsink = "none"\nsegment_bytes = ${segmentBytes}\n`);
  service.daemon.kill('SIGHUP');
  await service.daemon.printed(/reloaded: added more/);
  const target = { url: service.url, token: null };
  await callControl(target, 'POST', '/routes', { name: 'third', sink: 'none', segment_bytes: segmentBytes });
  for (const route of ['more', 'third']) {
    const put = await run(['put', route], { cwd: service.home, stdin: 'x\n' });
    t.is(put.code, 0, put.stderr);
  }
  await service.restart();
  t.is((await run(['put', 'third'], { cwd: service.home, stdin: 'y\n' })).code, 0);
  t.is((await service.run('tail', 'third', '--from', 'start')).stdout, 'x\ny\n');
});

nativeTest(
  'a route that cannot be opened stops no other, and is opened once what was in the way is gone',
  async (t) => {
    const service = new Service(t, scratch(t));
    await service.ready();
    service.daemon.kill('SIGTERM');
    await service.daemon.ended;
    const file = join(service.home, 'elgate.toml');
    const bad = `[routes.bad]\nsink = "none"\nsegment_bytes = ${segmentBytes}\n`;
    writeFileSync(file, `${readFileSync(file, 'utf8')}${bad}`);
    const obstacle = join(service.home, 'data/bad');
    writeFileSync(obstacle, 'in the way');
    service.daemon = start(['serve'], { cwd: service.home });
    await service.daemon.printed(/elgate: route bad is failed: .*data\/bad.*ERR_ELGATE_IO/);
    await service.ready();
    const admin = service.url.replace('http://', '');
    t.is((await run(['put', 'access'], { cwd: service.home, stdin: 'x\n' })).code, 0);
    const put = start(['put', 'bad', '--admin', admin], { cwd: service.home, stdin: 'y\n' });
    await put.printed(/waiting: route bad is failed: .*data\/bad/);
    const status = await service.run('status', '--admin', admin);
    t.regex(status.stdout, /bad +none +failed[\s\S]*last errors:\nbad: .*data\/bad/);
    t.regex(
      await (await fetch(`${service.url}/metrics`)).text(),
      /elgate_route_state\{route="bad",state="failed"\} 1\n/,
    );
    unlinkSync(obstacle);
    service.daemon.kill('SIGHUP');
    const { code, stderr } = await put.ended;
    t.is(code, 0, stderr);
    t.is((await service.run('tail', 'bad', '--from', 'start')).stdout, 'y\n');
  },
);

nativeTest('the daemon outlives somebody who cuts a mapped file short, and a tailer is told', async (t) => {
  const service = await serve(t);
  t.is((await run(['put', 'access'], { cwd: service.home, stdin: 'a\n' })).code, 0);
  const tail = start(['tail', 'access', '-f', '--from', 'start'], { cwd: service.home });
  await tail.printed(/a\n/);
  truncateSync(join(service.home, 'data/access/head'));
  const told = await tail.ended;
  t.is(told.signal, null);
  t.regex(told.stderr, /data\/access\/head was cut short.*ERR_ELGATE_IO/);
  t.is((await run(['put', 'access', '--wait', 'delivered'], { cwd: service.home, stdin: 'b\n' })).code, 0);
  const status = await callControl<EngineStatus>({ url: service.url, token: null }, 'GET', '/status');
  t.regex(status.routes[0]?.last_error?.message ?? '', /data\/access\/head was cut short/);
  t.is((await service.run('tail', 'access', '--from', 'start')).stdout, 'a\nb\n');
});

nativeTest('pausing holds deliveries back, not records', async (t) => {
  const service = await serve(t);
  const target = { url: service.url, token: null };
  await callControl(target, 'POST', '/routes/access/pause');
  t.is((await run(['put', 'access'], { cwd: service.home, stdin: 'a\nb\n' })).code, 0);
  const paused = await callControl<EngineStatus>(target, 'GET', '/status');
  t.like(paused.routes[0], { state: 'paused', durable_lsn: 2, delivered_lsn: 0, lag_records: 2 });
  await callControl(target, 'POST', '/routes/access/resume');
  t.is((await run(['put', 'access', '--wait', 'delivered'], { cwd: service.home, stdin: 'c\n' })).code, 0);
  t.is(service.output, 'a\nb\nc\n');
});

nativeTest('a second daemon is refused, by ring or by data directory', async (t) => {
  const service = await serve(t);
  const same = await service.run('serve');
  t.is(same.code, 1);
  t.regex(same.stderr, /ERR_ELGATE_IN_USE/);
  const sameData = await service.run('serve', '--ring', join(service.home, 'other'));
  t.regex(sameData.stderr, /ERR_ELGATE_IN_USE/);
  const sameRing = await service.run('serve', '--data-dir', join(service.home, 'other-data'));
  t.regex(sameRing.stderr, /ERR_ELGATE_IN_USE/);
});
