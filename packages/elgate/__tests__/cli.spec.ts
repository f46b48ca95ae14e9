import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { callControl } from '../src/control/client.js';
import { type Running, runFake, shellFake, startFake } from './support/cli.js';
import { scratch } from './support/scratch.js';

const usage: [string[], RegExp][] = [
  [['srve'], /unknown command 'srve' \(Did you mean serve\?\)/],
  [['put'], /missing required argument 'route'/],
  [['put', 'a', '--wait', 'soon'], /Allowed choices are accepted, durable, delivered/],
  [['put', 'a', '--timeout', 'soon'], /--timeout must be a number of seconds/],
  [['tail', 'a', '--bogus'], /unknown option '--bogus'/],
  [['tail', 'a', '--from', 'yesterdayish'], /--from takes start, end, a record number or a time/],
  [['put', 'A/B'], /"A\/B" is not a route name/],
  [['put', 'a', 'b', 'c'], /got 3; see `elgate put --help`/],
  [['tail', 'a', '--from', '-1'], /--from takes start, end, a record number or a time/],
  [['serve', '--mode', 'turbo'], /--mode: runtime\.mode: must be one of/],
  [['routes', 'frob'], /unknown command 'routes frob'/],
  [['routes', 'add', 'a'], /required option '--sink <sink>'/],
];

for (const [args, message] of usage) {
  test(`wrong usage: ${args.join(' ')}`, async (t) => {
    const { code, stderr, stdout } = await runFake(args, { cwd: scratch(t) });
    t.is(code, 2, stderr);
    t.regex(stderr, message);
    t.is(stderr.trim().split('\n').length, 1, stderr);
    t.is(stdout, '');
  });
}

const failures: [string, string[], NodeJS.ProcessEnv, RegExp][] = [
  ['no daemon', ['put', 'a'], { FAKE_DAEMON: 'none' }, /no daemon serves .*\[ERR_ELGATE_DAEMON_UNAVAILABLE\]/],
  [
    'no control API',
    ['status', '--admin', '127.0.0.1:9'],
    {},
    /no daemon answers at http:\/\/127\.0\.0\.1:9 \(ECONNREFUSED\)/,
  ],
  ['no such file', ['put', 'a', 'none.txt'], {}, /cannot read none\.txt: ENOENT/],
  ['no such log', ['tail', './none'], {}, /none does not exist/],
  ['a file for a log', ['inspect', process.execPath], {}, /is a file: name the directory of the log/],
  ['no such data directory', ['doctor', './none'], {}, /none does not exist/],
  ['no such route', ['tail', 'a', '--data-dir', '.'], {}, /route a has no log in/],
  ['bad variable', ['status'], { ELGATE_ADMIN: 'nowhere' }, /ELGATE_ADMIN: admin\.listen/],
  ['no configuration', ['serve', '--config', 'none.toml'], {}, /none\.toml: does not exist/],
  [
    'addon that is not there',
    ['doctor'],
    { ELGATE_NATIVE: '/none.node' },
    /ELGATE_NATIVE names \/none\.node, which does not exist/,
  ],
];

for (const [title, args, env, message] of failures) {
  test(`failure: ${title}`, async (t) => {
    const { code, stderr } = await runFake(args, { cwd: scratch(t), env });
    t.is(code, 1, stderr);
    t.regex(stderr, message);
    t.regex(stderr, /^elgate: .* \[ERR_ELGATE_[A-Z_]+\]\n$/);
  });
}

test('put hands over every byte of every line, and says so in JSON', async (t) => {
  const cwd = scratch(t);
  const lines = Array.from({ length: 5000 }, (_, index) => `line ${index} ${'x'.repeat(index % 300)}`);
  const input = Buffer.concat([
    Buffer.from(`${lines.join('\n')}\n`),
    Buffer.from(randomBytes(20_000).toString('latin1').replaceAll('\n', ' '), 'latin1'),
    Buffer.from('\n\n\r\nlast without a line feed'),
  ]);
  writeFileSync(join(cwd, 'in'), input);
  const out = join(cwd, 'out');
  const { code, stdout, stderr } = await runFake(['put', 'a', 'in', '--json'], { cwd, env: { FAKE_OUT: out } });
  t.is(code, 0, stderr);
  t.deepEqual(readFileSync(out), Buffer.concat([input, Buffer.from('\n')]));
  const report = JSON.parse(stdout);
  t.deepEqual(Object.keys(report), ['route', 'sent', 'acked', 'level', 'seconds', 'p50_us', 'p99_us']);
  t.deepEqual([report.route, report.sent, report.acked, report.level], ['a', 5004, 5004, 'durable']);
  t.true(report.p50_us > 0 && report.p50_us <= report.p99_us);
});

for (const level of ['accepted', 'delivered']) {
  test(`put from standard input waits for ${level}`, async (t) => {
    const { code, stdout } = await runFake(['put', 'a', '-', '--wait', level], {
      stdin: 'one\ntwo\n',
      cwd: scratch(t),
    });
    t.is(code, 0);
    t.regex(stdout, new RegExp(`^a: 2 records ${level} in `));
  });
}

const STREAMS: [title: string, command: string, code: number, stderr: RegExp][] = [
  [
    'a directory to read',
    'put a < /',
    1,
    /^elgate: cannot read standard input: it is a directory \[ERR_ELGATE_IO\]\n$/,
  ],
  ['nothing to read from', 'put a <&-', 1, /^elgate: cannot read standard input: it is closed.* \[ERR_ELGATE_IO\]\n$/],
  ['nothing on purpose', 'put a < /dev/null', 0, /^$/],
  ['a full disk', 'doctor > /dev/full', 1, /^elgate: cannot write to standard output: ENOSPC \[ERR_ELGATE_IO\]\n$/],
  ['a full disk for fsck', 'fsck ./a > /dev/full', 8, /^elgate: cannot write to standard output: ENOSPC [^\n]*\n$/],
];

for (const [title, command, code, message] of STREAMS) {
  test(`standard streams: ${title}`, async (t) => {
    const cwd = scratch(t);
    mkdirSync(join(cwd, 'a'));
    const outcome = await shellFake(command, { cwd });
    t.regex(outcome.stderr, message);
    t.is(outcome.code, code);
  });
}

test('put of nothing is nothing', async (t) => {
  const { code, stdout } = await runFake(['put', 'a', '--json'], { cwd: scratch(t) });
  t.is(code, 0);
  t.is(JSON.parse(stdout).sent, 0);
});

test('put keeps order and loses nothing through a full ring and refusals for a while', async (t) => {
  const cwd = scratch(t);
  const out = join(cwd, 'out');
  const input = Array.from({ length: 2000 }, (_, index) => `${index} ${'y'.repeat(500)}\n`).join('');
  const env = { FAKE_OUT: out, FAKE_CAPACITY: '3', FAKE_REFUSALS: '12' };
  const { code, stderr, stdout } = await runFake(['put', 'a', '--json'], { cwd, env, stdin: input });
  t.is(code, 0, stderr);
  t.is(JSON.parse(stdout).acked, 2000);
  t.is(readFileSync(out, 'latin1').split('\n').sort().join(), input.split('\n').sort().join());
});

test('put names the line that is too long; what came before is safe', async (t) => {
  const cwd = scratch(t);
  const out = join(cwd, 'out');
  const stdin = `one\ntwo\n${'z'.repeat(1_000_001)}\nfour\n`;
  const { code, stderr, stdout } = await runFake(['put', 'a', '--json'], { cwd, stdin, env: { FAKE_OUT: out } });
  t.is(code, 1);
  t.regex(
    stderr,
    /line 3 is longer than 1000000 bytes.*the 2 lines before it are durable, it and all that follow were not sent/,
  );
  t.is(readFileSync(out, 'utf8'), 'one\ntwo\n');
  t.deepEqual([JSON.parse(stdout).sent, JSON.parse(stdout).acked], [2, 2]);
});

test('put gives up when nothing moves, and says how far it came', async (t) => {
  const env = { FAKE_HELD: '1' };
  const { code, stderr, stdout } = await runFake(['put', 'a', '--timeout', '0.2', '--json'], {
    cwd: scratch(t),
    stdin: 'x\n',
    env,
  });
  t.is(code, 1);
  t.regex(stderr, /nothing moved for 0\.2 s .*0 of 1 records are known to be durable.*ERR_ELGATE_TIMEOUT/);
  t.is(JSON.parse(stdout).acked, 0);
});

test('put --wait accepted is done when all is accepted, whenever the daemon takes it', async (t) => {
  const { code, stderr, stdout } = await runFake(['put', 'a', '--wait', 'accepted', '--timeout', '0.2', '--json'], {
    cwd: scratch(t),
    // More groups than are waited for at other levels.
    stdin: `${'x'.repeat(3000)}\n`.repeat(900),
    env: { FAKE_HELD: '1' },
  });
  t.is(code, 0, stderr);
  t.deepEqual([JSON.parse(stdout).sent, JSON.parse(stdout).acked], [900, 900]);
});

test('put --wait accepted tells of a refusal', async (t) => {
  const env = { FAKE_REFUSALS: '2' };
  const { code, stderr } = await runFake(['put', 'a', '--wait', 'accepted'], { cwd: scratch(t), stdin: 'x\n', env });
  t.is(code, 1);
  t.regex(stderr, /route a: .*ERR_ELGATE_ROUTE_UNKNOWN/);
});

test('put sends nothing to a route that never becomes durable by itself', async (t) => {
  const cwd = scratch(t);
  const api = await controlApi(t, { flush: 'manual', data_dir: '/data' });
  const out = join(cwd, 'out');
  const put = (env: NodeJS.ProcessEnv) =>
    runFake(['put', 'a', '--admin', api], { cwd, stdin: 'x\n', env: { FAKE_OUT: out, FAKE_LEVEL: '1', ...env } });
  const { code, stderr, stdout } = await put({});
  t.is(code, 1);
  t.regex(stderr, /flush = "manual": .*nothing was sent, use --wait accepted \[ERR_ELGATE_UNSUPPORTED\]/);
  t.is(stdout, '');
  t.false(existsSync(out));
  t.regex((await put({ FAKE_DATA: '/other' })).stderr, /records were accepted/, "another daemon's word does not count");
});

test('put does not call delivered what was lost meanwhile', async (t) => {
  const cwd = scratch(t);
  const put = async (lost: number) => {
    const api = await controlApi(t, { flush: 'auto', data_dir: '/data', lost });
    return runFake(['put', 'a', '--admin', api, '--wait', 'delivered'], { cwd, stdin: 'x\n' });
  };
  t.is((await put(0)).code, 0);
  const { code, stderr } = await put(3);
  t.is(code, 1);
  t.regex(stderr, /route a: 3 records were lost meanwhile.*may be among them.*\[ERR_ELGATE_LOG_CORRUPT\]/);
});

/** A control API by itself; at each look, `lost` more records are. */
async function controlApi(
  t: ExecutionContext,
  { flush, data_dir, lost = 0 }: { flush: string; data_dir: string; lost?: number },
): Promise<string> {
  let looks = 0;
  const server = createServer((request, response) => {
    const routes = [{ name: 'a', flush, lost_records: 7 + lost * looks }];
    if (request.url === '/status') looks += 1;
    response.end(JSON.stringify({ pid: 1, data_dir, routes }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('put does not call accepted durable', async (t) => {
  const { code, stderr } = await runFake(['put', 'a'], { cwd: scratch(t), stdin: 'x\n', env: { FAKE_LEVEL: '1' } });
  t.is(code, 1);
  t.regex(stderr, /flush = "none"/);
});

test('put passes on a refusal for good', async (t) => {
  const { code, stderr } = await runFake(['put', 'a'], { cwd: scratch(t), stdin: 'x\n', env: { FAKE_REFUSALS: '2' } });
  t.is(code, 1);
  t.regex(stderr, /route a: .*ERR_ELGATE_ROUTE_UNKNOWN/);
});

test('inspect and doctor, for people and programs', async (t) => {
  const cwd = scratch(t);
  const inspect = await runFake(['inspect', '.'], { cwd });
  t.regex(inspect.stdout, /durable 3, .*writer: pid 1, alive[\s\S]*a-20260101-001\.wal[\s\S]*sink +2 +1/);
  t.is(JSON.parse((await runFake(['inspect', '.', '--json'], { cwd })).stdout).next_lsn, 4);
  t.regex((await runFake(['doctor'], { cwd })).stdout, /ok {4}io_uring: works/);
});

/** Serves with the fake addon on a port of the system's choosing. */
async function serve(
  t: ExecutionContext,
  env: NodeJS.ProcessEnv = {},
): Promise<{ daemon: Running; cwd: string; url: string }> {
  const cwd = scratch(t);
  writeFileSync(join(cwd, 'elgate.toml'), '[admin]\nlisten = "127.0.0.1:0"\n[routes.a]\nsink = "none"\n');
  const daemon = startFake(['serve', '--ring', join(cwd, 'ring')], { cwd, env });
  t.teardown(() => daemon.kill('SIGKILL'));
  await daemon.printed(/route +a: none/);
  const url = /control +(\S+)/.exec(daemon.stdout)?.[1] as string;
  return { daemon, cwd, url };
}

test('serve says what it does; status and routes talk to it; SIGTERM drains', async (t) => {
  const { daemon, cwd, url } = await serve(t);
  t.regex(
    daemon.stdout,
    /elgate 0\.0\.0 \(fake\) is serving[\s\S]*mode +single-thread[\s\S]*backend poll[\s\S]*by default: data_dir/,
  );
  const flags = ['--admin', url.replace('http://', '')];
  const status = await runFake(['status', ...flags], { cwd });
  t.is(status.code, 0, status.stderr);
  t.regex(status.stdout, /ROUTE +SINK +STATE[\s\S]*a +none +running[\s\S]*what producers write into/);
  t.is(JSON.parse((await runFake(['status', '--json', ...flags], { cwd })).stdout).phase, 'running');
  t.is(
    (await runFake(['routes', 'add', 'n', '--sink', 'file', '--path', 'n.log', ...flags], { cwd })).stdout,
    'n: added\n',
  );
  t.regex((await runFake(['routes', ...flags], { cwd })).stdout, /a +none[\s\S]*n +file +running +0 +0 +api +n\.log/);
  t.is((await runFake(['routes', 'pause', 'n', ...flags], { cwd })).stdout, 'n: paused\n');
  t.is((await runFake(['routes', 'resume', 'n', ...flags], { cwd })).code, 0);
  t.is((await runFake(['routes', 'remove', 'n', ...flags], { cwd })).stdout, 'n: removed\n');
  const again = await runFake(['routes', 'remove', 'n', ...flags], { cwd });
  t.is(again.code, 1);
  t.regex(again.stderr, /there is no route "n"; there are: a \[ERR_ELGATE_ROUTE_UNKNOWN\]/);
  const second = await runFake(['serve', ...flags], { cwd });
  t.is(second.code, 1);
  t.regex(second.stderr, /another process listens on .*ERR_ELGATE_ADDRESS_IN_USE/);
  daemon.kill('SIGTERM');
  const { code, stdout } = await daemon.ended;
  t.is(code, 0);
  t.regex(stdout, /SIGTERM: .*\nstopped; everything is delivered\n$/);
});

test('SIGHUP reloads routes; a bad file changes nothing and says why', async (t) => {
  const { daemon, cwd, url } = await serve(t);
  const file = join(cwd, 'elgate.toml');
  const good = readFileSync(file, 'utf8');
  writeFileSync(file, `${good}[routes.b]\nsink = "none"\n`);
  daemon.kill('SIGHUP');
  await daemon.printed(/reloaded: added b\n/);
  writeFileSync(file, `${good}[routes.b]\nsnik = "none"\n`);
  daemon.kill('SIGHUP');
  await daemon.printed(/not reloaded, the running configuration stays: .*elgate\.toml:6: routes\.b\.snik: .*'sink'/);
  const { routes } = await callControl<{ routes: { name: string }[] }>({ url, token: null }, 'GET', '/routes');
  t.deepEqual(
    routes.map(({ name }) => name),
    ['a', 'b'],
  );
  daemon.kill('SIGINT');
  t.is((await daemon.ended).code, 0);
});

test('SIGHUP while the file that was found is away changes nothing', async (t) => {
  const { daemon, cwd, url } = await serve(t);
  renameSync(join(cwd, 'elgate.toml'), join(cwd, 'away'));
  writeFileSync(join(cwd, 'elgate.json'), '{}');
  daemon.kill('SIGHUP');
  await daemon.printed(/not reloaded, the running configuration stays: .*elgate\.toml: does not exist/);
  const { routes } = await callControl<{ routes: { name: string }[] }>({ url, token: null }, 'GET', '/routes');
  t.deepEqual(
    routes.map(({ name }) => name),
    ['a'],
  );
});

test('serve tells each change of a route once', async (t) => {
  const statuses = join(scratch(t), 'status.json');
  const parked = { at_us: 1, code: 'ERR_ELGATE_LOG_UNAVAILABLE', message: 'the disk is full' };
  const show = (a: object) => {
    writeFileSync(`${statuses}.new`, JSON.stringify({ a }));
    renameSync(`${statuses}.new`, statuses);
  };
  show({});
  const { daemon } = await serve(t, { FAKE_STATUS: statuses });
  show({ state: 'parked', last_error: parked });
  await daemon.printed(/route a is parked/);
  show({ state: 'running', last_error: { ...parked, at_us: 2 } });
  await daemon.printed(/route a is running again/);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  t.is(
    daemon.stderr,
    'elgate: route a is parked: the disk is full [ERR_ELGATE_LOG_UNAVAILABLE]\n' +
      'elgate: route a is running again (was parked)\n',
  );
  daemon.kill('SIGTERM');
  t.is((await daemon.ended).code, 0);
});

test('a second signal ends a drain at once', async (t) => {
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    const { daemon } = await serve(t, { FAKE_CLOSE: 'never' });
    daemon.kill(signal);
    await daemon.printed(new RegExp(`${signal}: taking nothing new`));
    daemon.kill(signal);
    t.is((await daemon.ended).code, code);
  }
});
