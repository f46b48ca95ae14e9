import { existsSync, linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadConfig } from '../src/config/load.js';
import { Daemon } from '../src/daemon/daemon.js';
import { Elgate } from '../src/library/elgate.js';
import { provideBinding } from '../src/native/load.js';
import { FakeMachine } from './support/fake-binding.js';
import { scratch } from './support/scratch.js';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever was answered
  json: any;
}

interface Served {
  daemon: Daemon;
  machine: FakeMachine;
  file: string;
  load: () => ReturnType<typeof loadConfig>;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

const CONFIG =
  '[routes.a]\nsink = "file"\npath = "a.log"\n[routes.h]\nsink = "http"\nurl = "http://far.test/"\nheaders = { authorization = "secret" }\n';

async function serve(t: ExecutionContext, extra = '', listen = '127.0.0.1:0'): Promise<Served> {
  const cwd = scratch(t);
  const file = join(cwd, 'elgate.toml');
  writeFileSync(file, `[admin]\nlisten = "${listen}"\n${extra}\n[ring]\npath = "${cwd}/ring"\n${CONFIG}`);
  const machine = new FakeMachine();
  provideBinding(machine.binding);
  const load = () => loadConfig({ cwd, env: {} });
  const daemon = await Daemon.start(load());
  t.teardown(async () => {
    await daemon.stop(10);
    provideBinding(undefined);
  });
  const { port } = daemon.config.admin;
  const call: Served['call'] = (method, path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const text = typeof body === 'string' ? body : body === undefined ? undefined : JSON.stringify(body);
      const type = text === undefined ? {} : { 'content-type': 'application/json' };
      const outgoing = request(
        { host: '127.0.0.1', port, method, path, headers: { ...type, ...headers } },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk) => chunks.push(chunk));
          response.on('end', () => {
            const answer = Buffer.concat(chunks).toString();
            const isJson = response.headers['content-type']?.startsWith('application/json') && answer !== '';
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text: answer,
              json: isJson ? JSON.parse(answer) : null,
            });
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(text);
    });
  return { daemon, machine, file, load, call };
}

test.serial('status, info, health and readiness', async (t) => {
  const { call, daemon } = await serve(t);
  const status = await call('GET', '/status');
  t.is(status.status, 200);
  t.is(status.json.phase, 'running');
  t.is(status.json.build.sha, 'fake');
  t.is(status.json.load_average.length, 3);
  const whole = status.json.memory.find((use: { what: string }) => use.what === 'process');
  t.true(whole.bytes > 1_000_000 && whole.why !== '');
  t.deepEqual(
    status.json.routes.map((route: { name: string }) => route.name),
    ['a', 'h'],
  );
  const info = await call('GET', '/info');
  t.is(info.json.shards[0].backend, 'poll');
  t.is(info.json.node, process.version);
  t.is((await call('GET', '/healthz')).status, 200);
  t.is((await call('GET', '/readyz')).status, 200);
  daemon.phase = 'draining';
  t.is((await call('GET', '/readyz')).status, 503);
  t.is((await call('GET', '/healthz')).status, 200);
  const head = await call('HEAD', '/status');
  t.is(head.status, 200);
  t.is(head.text, '');
});

test.serial('routes: listed without secrets, paused, resumed, flushed', async (t) => {
  const { call } = await serve(t);
  const { json } = await call('GET', '/routes');
  t.is(json.routes[0].source, 'file');
  t.is(json.routes[1].headers.authorization, '(hidden)');
  t.is((await call('POST', '/routes/a/pause')).status, 200);
  t.is((await call('GET', '/routes')).json.routes[0].state, 'paused');
  t.is((await call('POST', '/routes/a/resume')).status, 200);
  t.is((await call('GET', '/routes')).json.routes[0].state, 'running');
  t.is((await call('POST', '/routes/a/flush')).json.flushed, true);
  const replay = await call('POST', '/routes/a/replay');
  t.is(replay.status, 501);
  t.is(replay.json.error.code, 'ERR_ELGATE_UNSUPPORTED');
  const unknown = await call('POST', '/routes/zz/pause');
  t.is(unknown.status, 404);
  t.regex(unknown.json.error.message, /there are: a, h/);
});

test.serial('an added route is there after a restart, until it is removed', async (t) => {
  const { call, daemon, machine, load } = await serve(t);
  const added = await call('POST', '/routes', { name: 'n', sink: 'file', path: 'n.log' });
  t.is(added.status, 201, added.text);
  t.deepEqual(added.json.changes.added, ['n']);
  t.is((await call('POST', '/routes', { name: 'n', sink: 'file', path: 'm.log' })).status, 200);
  await daemon.stop(10);
  const again = await Daemon.start(load());
  t.teardown(() => again.stop(10));
  t.is(again.routes().find(({ name }) => name === 'n')?.config.path, 'm.log');
  t.is(JSON.parse(machine.configs[1] as string).routes.n.path, 'm.log');
  t.deepEqual((await again.removeRoute('n')).removed, ['n']);
  await t.throwsAsync(again.removeRoute('n'), { code: 'ERR_ELGATE_ROUTE_UNKNOWN' });
});

test.serial('bad routes change nothing', async (t) => {
  const { call, daemon } = await serve(t);
  const bad: [unknown, number, RegExp][] = [
    [{ name: 'n', sink: 'fle' }, 400, /added route: routes\.n\.sink: .*did you mean "file"/],
    [{ name: 'n', sink: 'file', path: 'a.log' }, 400, /already written by route a/],
    [{ name: 'n', sink: 'file', path: '../../x' }, 400, /outside/],
    [{ name: '../n', sink: 'none' }, 400, /not a route name/],
    [{ sink: 'none' }, 400, /not a route name/],
    [{ name: 'a', sink: 'none' }, 409, /in the configuration \(.*elgate\.toml:\d+\).*SIGHUP/],
    ['{"name":', 400, /not valid JSON/],
    ['[1]', 400, /must be a JSON object/],
  ];
  for (const [body, status, message] of bad) {
    const answer = await call('POST', '/routes', body);
    t.is(answer.status, status, answer.text);
    t.regex(answer.json.error.message, message);
  }
  t.is((await call('DELETE', '/routes/a')).status, 409);
  t.is((await call('DELETE', '/routes/zz')).status, 404);
  t.is((await call('POST', '/routes', { name: 'x'.repeat(300_000) })).status, 413);
  const form = await call('POST', '/routes', 'name=n', { 'content-type': 'application/x-www-form-urlencoded' });
  t.is(form.status, 415);
  t.deepEqual(
    daemon.routes().map(({ name }) => name),
    ['a', 'h'],
  );
});

test.serial('an added route does not write what is not its own', async (t) => {
  const { call, file, daemon } = await serve(t);
  const cwd = dirname(file);
  mkdirSync(join(cwd, 'elgate-data'), { recursive: true });
  writeFileSync(join(cwd, 'a.log'), '');
  linkSync(join(cwd, 'a.log'), join(cwd, 'b.log'));
  const bad: [string, RegExp][] = [
    ['elgate-data/a/head', /added route: routes\.n\.path: .*leads into data_dir/],
    ['ring.aside', /is the ring/],
    ['elgate.toml', /is the configuration file/],
    ['b.log', /is the file of route a by another name/],
  ];
  for (const [path, message] of bad) {
    const answer = await call('POST', '/routes', { name: 'n', sink: 'file', path });
    t.is(answer.status, 400, answer.text);
    t.regex(answer.json.error.message, message);
  }
  t.is(daemon.routes().length, 2);
});

test.serial('added routes that do not fit are left out, aloud, and kept until they do', async (t) => {
  const { daemon, load, file } = await serve(t);
  await daemon.stop(10);
  const kept = join(dirname(file), 'elgate-data', '.added-routes.json');
  mkdirSync(dirname(kept), { recursive: true });
  const added = { x: { sink: 'none' }, y: { sink: 'file', path: 'a.log' }, z: 5, __proto__: null };
  writeFileSync(kept, JSON.stringify(added));
  const again = await Daemon.start(load());
  t.teardown(() => again.stop(10));
  const names = () => again.routes().map(({ name }) => name);
  t.deepEqual(names(), ['a', 'h', 'x']);
  t.is(again.notices.length, 2);
  t.regex(again.notices[0] as string, /routes\.y\.path: a\.log is already written by route a.*routes remove y/);
  t.true(again.notices.every((notice) => notice.includes(kept)));
  await again.addRoute('n', { sink: 'none' });
  t.deepEqual(Object.keys(JSON.parse(readFileSync(kept, 'utf8'))), ['x', 'y', 'z', 'n']);
  await again.removeRoute('z');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"a.log"', '"other.log"'));
  t.deepEqual((await again.reload(load)).changes.added, ['y']);
  writeFileSync(file, readFileSync(file, 'utf8').replace('"other.log"', '"a.log"'));
  await t.throwsAsync(again.reload(load), { message: /routes\.y\.path/ }, 'nothing in use is taken away');
  t.deepEqual(names(), ['a', 'h', 'x', 'y', 'n']);
});

const DAMAGES: [title: string, make: (path: string) => void, why: RegExp][] = [
  ['empty', (path) => writeFileSync(path, ''), /it is empty/],
  ['torn', (path) => writeFileSync(path, '{"x": {'), /JSON/],
  ['no table', (path) => writeFileSync(path, '[1]'), /it is no table/],
  ['a directory', (path) => mkdirSync(path), /EISDIR/],
];

for (const [title, make, why] of DAMAGES) {
  test.serial(`added routes whose file is ${title} do not keep the daemon from starting`, async (t) => {
    const { daemon, load, file } = await serve(t);
    await daemon.stop(10);
    const kept = join(dirname(file), 'elgate-data', '.added-routes.json');
    mkdirSync(dirname(kept), { recursive: true });
    writeFileSync(`${kept}.damaged`, 'of another time');
    make(kept);
    const again = await Daemon.start(load());
    t.teardown(() => again.stop(10));
    t.is(again.routes().length, 2);
    const [notice] = again.notices as [string];
    t.regex(notice, why);
    t.true(notice.includes(`${kept}.damaged-2`), notice);
    t.true(existsSync(`${kept}.damaged-2`));
    t.is(readFileSync(`${kept}.damaged`, 'utf8'), 'of another time');
    await again.addRoute('n', { sink: 'none' });
    t.deepEqual(Object.keys(JSON.parse(readFileSync(kept, 'utf8'))), ['n']);
  });
}

test.serial('logs', async (t) => {
  const { call } = await serve(t);
  t.is((await call('GET', '/wal')).json.routes.length, 2);
  const { json } = await call('GET', '/wal/a');
  t.is(json.segments[0].name, 'a-20260101-001.wal');
  t.is(json.next_lsn, 4);
  t.is((await call('GET', '/wal/zz')).status, 404);
});

test.serial('wrong path or method says what exists', async (t) => {
  const { call } = await serve(t);
  const missing = await call('GET', '/stats');
  t.is(missing.status, 404);
  t.regex(missing.json.error.message, /there are \/status \/info/);
  const method = await call('PUT', '/routes');
  t.is(method.status, 405);
  t.is(method.headers.allow, 'GET, POST');
  t.is((await call('GET', '/%ff')).status, 400);
  t.is((await call('GET', '/wal/..%2f..%2fetc')).status, 404);
});

test.serial('metrics are what Prometheus reads', async (t) => {
  const { call, machine } = await serve(t);
  machine.ring.log('a').push({ lsn: 1, timeUs: 1, data: Buffer.alloc(1) });
  const { text, headers, status } = await call('GET', '/metrics');
  t.is(status, 200);
  t.regex(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  for (const line of lines) t.regex(line, /^elgate_[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+$/, line);
  t.is(new Set(lines.map((line) => line.split(' ')[0])).size, lines.length, 'each series once');
  for (const line of [
    'elgate_lag_records{route="a"} 1',
    'elgate_route_state{route="a",state="running"} 1',
    'elgate_disk_write_latency_ms_bucket{le="1",route="a"} 2',
    'elgate_disk_write_latency_ms_bucket{le="+Inf",route="a"} 3',
    'elgate_disk_write_latency_ms_count{route="a"} 3',
    'elgate_fsync_batch_size_sum{route="a"} 3',
    'elgate_disk_busy_seconds_total{route="a"} 0.5',
    'elgate_ring_slots{ring=',
  ]) {
    t.true(
      lines.some((candidate) => candidate.startsWith(line)),
      `${line}\n${text}`,
    );
  }
  t.regex(text, /# TYPE elgate_disk_write_latency_ms histogram/);
  t.regex(text, /# TYPE elgate_retries_total counter/);
});

test.serial('names that are not ours, and foreign pages, are turned away', async (t) => {
  const { call } = await serve(t, 'hosts = ["elgate.internal"]');
  t.is((await call('GET', '/status', undefined, { host: 'evil.test' })).status, 403);
  t.is((await call('GET', '/status', undefined, { host: 'localhost:1' })).status, 200);
  t.is((await call('GET', '/status', undefined, { host: '[::1]:7070' })).status, 200);
  t.is((await call('GET', '/status', undefined, { host: 'Elgate.Internal' })).status, 200);
  t.is((await call('POST', '/routes/a/pause', undefined, { origin: 'http://evil.test' })).status, 403);
  t.is((await call('GET', '/status', undefined, { origin: 'null' })).status, 403);
});

test.serial('a token that is set is needed for changes, and for nothing else', async (t) => {
  const { call } = await serve(t, 'token = "correct-horse"');
  t.is((await call('GET', '/status')).status, 200);
  const without = await call('POST', '/routes/a/pause');
  t.is(without.status, 401);
  t.is(without.headers['www-authenticate'], 'Bearer');
  t.is((await call('POST', '/routes/a/pause', undefined, { authorization: 'Bearer wrong-horse!' })).status, 401);
  t.is((await call('POST', '/routes/a/pause', undefined, { authorization: 'Bearer correct-horse' })).status, 200);
});

test.serial('beyond loopback, changes need a token that is set', async (t) => {
  const { call } = await serve(t, '', '0.0.0.0:0');
  t.is((await call('GET', '/status')).status, 200);
  const refused = await call('DELETE', '/routes/n');
  t.is(refused.status, 403);
  t.regex(refused.json.error.message, /admin\.token/);
});

test.serial('an address in use is one clear error, and leaves no engine behind', async (t) => {
  const { daemon, machine } = await serve(t);
  const { port } = daemon.config.admin;
  const config = loadConfig({ cwd: scratch(t), env: { ELGATE_ADMIN: `127.0.0.1:${port}` } });
  await t.throwsAsync(Daemon.start(config), { code: 'ERR_ELGATE_ADDRESS_IN_USE', message: /--admin/ });
  t.is(machine.configs.length, 1);
});

test.serial('garbage on the socket is answered or closed, and the daemon lives', async (t) => {
  const { daemon, call } = await serve(t);
  await new Promise<void>((resolve, reject) => {
    const socket = connect(daemon.config.admin.port, '127.0.0.1', () => socket.end('\x00\xff nonsense\r\n\r\n'));
    socket
      .on('data', () => {})
      .on('close', () => resolve())
      .on('error', reject);
  });
  t.is((await call('GET', '/healthz')).status, 200);
});

test.serial('reload takes over routes, all or nothing', async (t) => {
  const { daemon, load, file } = await serve(t);
  const before = readFileSync(file, 'utf8');
  writeFileSync(file, `${before}[routes.n]\nsink = "none"\n[runtime]\nmode = "single-thread"\n`);
  const { changes, needRestart } = await daemon.reload(load);
  t.deepEqual(changes.added, ['n']);
  t.deepEqual(needRestart, ['runtime'], 'the port that the system chose is not a change');
  writeFileSync(file, 'data_dri = "x"');
  await t.throwsAsync(daemon.reload(load), { message: /elgate\.toml:1: data_dri/ });
  t.deepEqual(
    daemon.routes().map(({ name }) => name),
    ['a', 'h', 'n'],
  );
});

test.serial('fetch of a connected gate learns the routes from the daemon', async (t) => {
  const { daemon, machine } = await serve(t);
  const gate = await Elgate.connect({ ring: machine.ring.path, admin: `127.0.0.1:${daemon.config.admin.port}` });
  t.teardown(() => gate.close());
  const response = await gate.fetch('http://far.test/', { method: 'POST', body: 'x' });
  t.is(response.headers.get('elgate-op-id'), 'h/1');
  await daemon.addRoute('later', { sink: 'http', url: 'http://far.test/later' });
  t.is((await gate.fetch('http://far.test/later', { method: 'POST' })).status, 202);
  await gate.route('a').flush();
});
