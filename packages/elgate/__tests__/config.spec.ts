import { chmodSync, linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { formatListen, parseListen } from '../src/config/listen.js';
import { checkReachable, chosenDefaults, loadConfig } from '../src/config/load.js';
import { engineJson } from '../src/config/schema.js';
import { closest } from '../src/config/suggest.js';
import type { ElgateError } from '../src/errors.js';
import { scratch } from './support/scratch.js';

function refused(t: ExecutionContext, text: string, name = 'elgate.toml'): string {
  const cwd = scratch(t);
  writeFileSync(join(cwd, name), text);
  const error = t.throws<ElgateError>(() => checkReachable(loadConfig({ cwd, env: {} })), undefined, text);
  t.is(error.code, 'ERR_ELGATE_CONFIG_INVALID');
  return error.message.replace(`${cwd}/`, '');
}

const ROUTE = '[routes.a]\nsink = "file"\npath = "a.log"\n';
const HTTP = '[routes.h]\nsink = "http"\nurl = "http://far.test/in"\n';

const MISTAKES: [title: string, text: string, place: string, ...phrases: string[]][] = [
  ['unknown key', 'data_dri = "x"', 'elgate.toml:1: data_dri:', 'unknown key', "did you mean 'data_dir'"],
  ['unknown key far from any', 'zzz = 1', 'elgate.toml:1: zzz:', 'known here: data_dir, ring'],
  ['unknown table', '\n[rign]\npath = "x"', 'elgate.toml:2: rign:', "did you mean 'ring'"],
  ['unknown key of a route', `${ROUTE}ordre = "none"`, 'elgate.toml:4: routes.a.ordre:', "did you mean 'order'"],
  [
    'unknown key in an inline table',
    `${ROUTE}retry = { initial_ms = 1, maxms = 2 }`,
    'elgate.toml:4: routes.a.retry.maxms:',
    "'max_ms'",
  ],
  ['dotted key', 'ring.pth = "x"', 'elgate.toml:1: ring.pth:', "did you mean 'path'"],
  ['text for a number', `${ROUTE}timeout_ms = "5"`, 'elgate.toml:4: routes.a.timeout_ms:', 'whole number', '"5"'],
  ['fraction', `${ROUTE}timeout_ms = 1.5`, 'elgate.toml:4:', 'whole number, not 1.5'],
  [
    'integer beyond exact numbers',
    `${ROUTE}retain = { max_bytes = 99999999999999999999 }`,
    'elgate.toml:4:',
    'whole number',
  ],
  ['number for text', 'data_dir = 5', 'elgate.toml:1: data_dir:', 'must be text'],
  ['empty text', 'data_dir = ""', 'elgate.toml:1: data_dir:', 'must not be empty'],
  ['text for a boolean', `${ROUTE}paused = "yes"`, 'elgate.toml:4: routes.a.paused:', 'true or false'],
  ['value for a table', 'ring = "/dev/shm/x"', 'elgate.toml:1: ring:', 'must be a table'],
  ['list for a table', '[[routes]]\nsink = "none"', 'elgate.toml:1: routes:', 'must be a table, not a list'],
  ['unknown mode', '[runtime]\nmode = "single-thred"', 'elgate.toml:2: runtime.mode:', 'did you mean "single-thread"'],
  [
    'shards against mode',
    '[runtime]\nmode = "single-thread"\nshards = 4',
    'elgate.toml:3: runtime.shards:',
    'contradicts',
  ],
  ['missing sink', '[routes.a]\npath = "x"', 'elgate.toml:1: routes.a.sink:', 'is missing'],
  ['missing path', '[routes.a]\nsink = "file"', 'elgate.toml:1: routes.a.path:', 'is missing'],
  ['missing url', '[routes.a]\nsink = "http"', 'elgate.toml:1: routes.a.url:', 'is missing'],
  ['url on a file sink', `${ROUTE}url = "http://x.test"`, 'elgate.toml:4: routes.a.url:', 'contradicts sink = "file"'],
  ['path on no sink', '[routes.a]\nsink = "none"\npath = "x"', 'elgate.toml:3: routes.a.path:', 'set sink = "file"'],
  ['not a url', '[routes.a]\nsink = "http"\nurl = "far away"', 'elgate.toml:3: routes.a.url:', 'is not a URL'],
  [
    'https',
    '[routes.a]\nsink = "http"\nurl = "https://x.test/"',
    'elgate.toml:3: routes.a.url:',
    'not supported by this version',
  ],
  [
    'password in url',
    '[routes.a]\nsink = "http"\nurl = "http://u:p@x.test/"',
    'elgate.toml:3:',
    'must not hold a password',
  ],
  ['header of the sink', `${HTTP}headers = { Host = "x" }`, 'elgate.toml:4: routes.h.headers.Host:', 'set by the sink'],
  ['line feed in a header', `${HTTP}headers = { a = "x\\r\\ny: z" }`, 'elgate.toml:4:', 'printable ASCII'],
  ['concurrency in order', `${ROUTE}concurrency = 4`, 'elgate.toml:4: routes.a.concurrency:', 'set order = "none"'],
  [
    'retry upside down',
    `${ROUTE}retry = { initial_ms = 50, max_ms = 10 }`,
    'elgate.toml:4: routes.a.retry.max_ms:',
    'less than',
  ],
  ['segment too small', `${ROUTE}segment_bytes = 4096`, 'elgate.toml:4: routes.a.segment_bytes:', 'from 4194304'],
  ['segment not aligned', `${ROUTE}segment_bytes = 4194305`, 'elgate.toml:4:', 'multiple of 4096'],
  [
    'retention below a segment',
    `${ROUTE}retain = { max_bytes = 5 }`,
    'elgate.toml:4: routes.a.retain.max_bytes:',
    'one segment',
  ],
  ['route name', '[routes."a/b"]\nsink = "none"', 'elgate.toml:1: routes.a/b:', 'not a route name'],
  ['a name that objects have', '[routes.__proto__]\nsink = "none"', 'elgate.toml:1: routes.__proto__:', 'another name'],
  ['the same, dotted', `${ROUTE}retry."__proto__".x = 1`, 'elgate.toml:4: routes.a.retry.__proto__:', 'another name'],
  ['path out of the root', '[routes.a]\nsink = "file"\npath = "../x"', 'elgate.toml:3: routes.a.path:', 'outside'],
  [
    'one file for two routes',
    `${ROUTE}[routes.b]\nsink = "file"\npath = "./a.log"`,
    'elgate.toml:6: routes.b.path:',
    'already written by route a',
  ],
  ['bad listen', '[admin]\nlisten = "7070"', 'elgate.toml:2: admin.listen:', 'HOST:PORT'],
  ['weak token', '[admin]\ntoken = "abc"', 'elgate.toml:2: admin.token:', 'at least 8'],
  ['ring without a directory', '[ring]\npath = "/no/such/dir/ring"', 'elgate.toml:2: ring.path:', 'not a directory'],
  ['data dir in a file', 'data_dir = "elgate.toml"', 'elgate.toml:1: data_dir:', 'is not a directory'],
  ['not toml', 'a = = 1', 'elgate.toml:1:', 'not valid TOML'],
  ['key twice', 'data_dir = "a"\ndata_dir = "b"', 'elgate.toml:', 'not valid TOML'],
];

for (const [title, text, place, ...phrases] of MISTAKES) {
  test(`mistake: ${title}`, (t) => {
    const cwd = scratch(t);
    mkdirSync(join(cwd, 'd'));
    writeFileSync(join(cwd, 'elgate.toml'), text);
    const error = t.throws<ElgateError>(() => checkReachable(loadConfig({ cwd, env: {} })), undefined, text);
    t.is(error.code, 'ERR_ELGATE_CONFIG_INVALID');
    const message = error.message.replace(`${cwd}/`, '');
    t.true(message.startsWith(place), message);
    for (const phrase of phrases) t.true(message.includes(phrase), message);
    t.false(message.includes('\n'));
  });
}

const TROUBLES: [title: string, path: string, prepare: (cwd: string) => void][] = [
  ['a directory', 'x', (cwd) => mkdirSync(join(cwd, 'x'))],
  ['below a file', 'x/a.log', (cwd) => writeFileSync(join(cwd, 'x'), '')],
  ['a loop of links', 'x', (cwd) => symlinkSync('x', join(cwd, 'x'))],
  ['a name too long', 'x'.repeat(300), () => {}],
];

for (const [title, path, prepare] of TROUBLES) {
  test(`the engine sees to a sink that is ${title}`, (t) => {
    const cwd = scratch(t);
    prepare(cwd);
    writeFileSync(join(cwd, 'elgate.toml'), `[routes.a]\nsink = "file"\npath = "${path}"\n`);
    t.notThrows(() => checkReachable(loadConfig({ cwd, env: {} })));
  });
}

test('the engine sees to a root of files that is none', (t) => {
  const cwd = scratch(t);
  writeFileSync(join(cwd, 'elgate.toml'), `[files]\nroot = "elgate.toml/x"\n${ROUTE}`);
  t.notThrows(() => checkReachable(loadConfig({ cwd, env: {} })));
});

const OWN: [title: string, path: string, prepare: (cwd: string) => void, phrase: RegExp][] = [
  ['in the data directory', 'elgate-data/a/x', () => {}, /leads into data_dir/],
  [
    'in the data directory by a link',
    'out/x',
    (cwd) => symlinkSync('elgate-data', join(cwd, 'out')),
    /leads into data_dir/,
  ],
  ['the ring', 'ring', () => {}, /is the ring/],
  ["the ring's companion", 'ring.aside', () => {}, /is the ring/],
  ['the configuration', 'x', (cwd) => linkSync(join(cwd, 'elgate.toml'), join(cwd, 'x')), /is the configuration file/],
];

for (const [title, path, prepare, phrase] of OWN) {
  test(`a sink does not write Elgate's own: ${title}`, (t) => {
    const cwd = scratch(t);
    const file = `ring.path = "ring"\n[routes.a]\nsink = "file"\npath = "${path}"\n`;
    writeFileSync(join(cwd, 'elgate.toml'), file);
    prepare(cwd);
    const error = t.throws<ElgateError>(() => checkReachable(loadConfig({ cwd, env: {} })));
    t.is(error.code, 'ERR_ELGATE_CONFIG_INVALID');
    t.regex(error.message, phrase);
    t.true(error.message.startsWith(`${cwd}/elgate.toml:4: routes.a.path: ${cwd}/${path} `), error.message);
  });
}

for (const [title, link] of [
  ['a hard link', linkSync],
  ['a link', symlinkSync],
] as const) {
  test(`two routes do not write one file by ${title}`, (t) => {
    const cwd = scratch(t);
    writeFileSync(join(cwd, 'elgate.toml'), `${ROUTE}[routes.b]\nsink = "file"\npath = "b.log"\n`);
    writeFileSync(join(cwd, 'a.log'), '');
    link(join(cwd, 'a.log'), join(cwd, 'b.log'));
    t.throws(() => checkReachable(loadConfig({ cwd, env: {} })), {
      message: /elgate\.toml:6: routes\.b\.path: .*is the file of route a by another name/,
    });
  });
}

test('a ring whose directory cannot be looked at is a mistake, not a defect', (t) => {
  t.regex(refused(t, '[ring]\npath = "elgate.toml/x/ring"'), /^elgate\.toml:2: ring\.path: .*not a directory/);
});

test('mistakes in JSON name their line', (t) => {
  t.regex(
    refused(t, '{\n  "routes": {\n    "a": { "snk": "none" }\n  }\n}', 'elgate.json'),
    /^elgate\.json:3: routes\.a\.snk: .*'sink'/,
  );
  t.regex(refused(t, '{\n  "ring": {},\n}', 'elgate.json'), /^elgate\.json:3: not valid JSON/);
  t.regex(refused(t, '{\n"routes": { "__proto__": {} } }', 'elgate.json'), /^elgate\.json:2: routes\.__proto__: /);
  t.regex(refused(t, '[]', 'elgate.json'), /one JSON object/);
});

test('a file that is named must exist', (t) => {
  const error = t.throws<ElgateError>(() => loadConfig({ cwd: scratch(t), env: {}, file: 'none.toml' }));
  t.regex(error.message, /none\.toml: does not exist/);
});

test('a mistyped variable is refused, other variables of the prefix are not', (t) => {
  const cwd = scratch(t);
  for (const [name, meant] of [
    ['ELGATE_DATADIR', 'ELGATE_DATA_DIR'],
    ['ELGATE_RNIG', 'ELGATE_RING'],
    ['ELGATE_CONIFG', 'ELGATE_CONFIG'],
  ] as const) {
    t.throws(() => loadConfig({ cwd, env: { [name]: 'x' } }), {
      code: 'ERR_ELGATE_CONFIG_INVALID',
      message: `${name}: unknown variable; did you mean ${meant}?`,
    });
  }
  const others = ['ELGATE_NATIVE', 'ELGATE_TARGET_DIR', 'ELGATE_SEED', 'ELGATE_SEEDS', 'ELGATE_PID', 'OTHER_RNIG'];
  t.notThrows(() => loadConfig({ cwd, env: Object.fromEntries(others.map((name) => [name, 'x'])) }));
});

test('flags over environment over file, each remembered as the origin', (t) => {
  const cwd = scratch(t);
  writeFileSync(join(cwd, 'elgate.toml'), 'data_dir = "from-file"\n[runtime]\nmode = "auto"\nbackend = "uring"\n');
  const env = { ELGATE_DATA_DIR: 'from-env', ELGATE_MODE: 'single-thread', ELGATE_SHARDS: '', ELGATE_PIN: 'false' };
  const overrides = [{ path: ['runtime', 'mode'], value: 'forced-single', from: '--mode' }];
  const config = loadConfig({ cwd, env, overrides });
  t.is(config.dataDir, join(cwd, 'from-env'));
  t.is(config.runtime.mode, 'forced-single');
  t.is(config.runtime.backend, 'uring');
  t.false(config.runtime.pin);
  t.is(config.origin(['runtime', 'mode']), '--mode');
  t.is(config.origin(['data_dir']), 'ELGATE_DATA_DIR');
  t.regex(config.origin(['runtime', 'backend']), /elgate\.toml:4$/);
});

test('a bad variable or flag is named as what it is', (t) => {
  const cwd = scratch(t);
  t.throws(() => loadConfig({ cwd, env: { ELGATE_SHARDS: 'two' } }), {
    message: /^ELGATE_SHARDS: runtime\.shards: must be a whole number, not "two"/,
  });
  const overrides = [{ path: ['runtime', 'mode'], value: 'fast', from: '--mode' }];
  t.throws(() => loadConfig({ cwd, env: {}, overrides }), { message: /^--mode: runtime\.mode: must be one of/ });
});

test('paths of the file count from its directory, others from here', (t) => {
  const cwd = scratch(t);
  mkdirSync(join(cwd, 'etc'));
  writeFileSync(
    join(cwd, 'etc/elgate.toml'),
    'data_dir = "d"\n[files]\nroot = "out"\n[routes.a]\nsink = "file"\npath = "logs/a.log"\n',
  );
  const config = loadConfig({ cwd, env: { ELGATE_RING: 'ring' }, file: 'etc/elgate.toml' });
  t.is(config.dataDir, join(cwd, 'etc/d'));
  t.is(config.filesRoot, join(cwd, 'etc/out'));
  t.is(config.routes.a?.path, 'logs/a.log');
  t.is(config.ring.path, join(cwd, 'ring'));
});

test('an absolute path of a file sink is taken below the root', (t) => {
  const cwd = scratch(t);
  writeFileSync(join(cwd, 'elgate.toml'), `[routes.a]\nsink = "file"\npath = "${cwd}/x/a.log"\n`);
  t.is(loadConfig({ cwd, env: {} }).routes.a?.path, 'x/a.log');
});

test('without a configuration everything has a default, and it is said which', (t) => {
  const cwd = scratch(t);
  const config = loadConfig({ cwd, env: {} });
  t.is(config.file, null);
  t.is(config.dataDir, join(cwd, 'elgate-data'));
  t.deepEqual({ ...config.admin }, { host: '127.0.0.1', port: 7070, token: null, hosts: [] });
  t.is(chosenDefaults(config).length, 5);
  t.is(chosenDefaults(loadConfig({ cwd, env: { ELGATE_MODE: 'auto' } })).length, 4);
});

test('the engine gets every setting', (t) => {
  const cwd = scratch(t);
  writeFileSync(join(cwd, 'elgate.toml'), `${ROUTE}${HTTP}order = "none"\nretain = { max_bytes = 0 }\n`);
  const engine = JSON.parse(engineJson(loadConfig({ cwd, env: {} })));
  t.deepEqual(engine.routes.a, {
    sink: 'file',
    path: 'a.log',
    framing: 'newline',
    order: 'route',
    concurrency: 1,
    retry: { initial_ms: 100, max_ms: 30_000, max_attempts: 0 },
    timeout_ms: 30_000,
    flush: 'auto',
    segment_bytes: 67_108_864,
    retain: { max_bytes: 1_073_741_824, max_age_s: 604_800 },
    paused: false,
  });
  t.is(engine.routes.h.concurrency, 16);
  t.is(engine.routes.h.content_type, 'application/octet-stream');
  t.is(engine.routes.h.retain.max_bytes, null);
});

// Root may write everywhere.
const unprivileged = process.getuid?.() === 0 ? test.skip : test;

unprivileged('a directory without permission is an error of its own', (t) => {
  const cwd = scratch(t);
  mkdirSync(join(cwd, 'locked'));
  chmodSync(join(cwd, 'locked'), 0o500);
  const config = loadConfig({ cwd, env: { ELGATE_DATA_DIR: join(cwd, 'locked/data') } });
  t.throws(() => checkReachable(config), {
    code: 'ERR_ELGATE_PERMISSION_DENIED',
    message: /^ELGATE_DATA_DIR: data_dir/,
  });
});

test('listen addresses', (t) => {
  t.deepEqual(parseListen('[::1]:80'), { host: '::1', port: 80 });
  t.deepEqual(parseListen('localhost:0'), { host: 'localhost', port: 0 });
  for (const bad of ['', ':80', 'a:', 'a:65536', '::1:80', '[x]:80', 'a b:1', 'http://a:1'])
    t.is(parseListen(bad), undefined, bad);
  t.is(formatListen({ host: '::1', port: 80 }), '[::1]:80');
});

test('suggestions are near or none', (t) => {
  t.is(closest('pahts', ['path', 'url']), 'path');
  t.is(closest('initial-ms', ['initial_ms']), 'initial_ms');
  t.is(closest('colour', ['path', 'url']), undefined);
});

test('docs/CONFIGURATION.md names every key', (t) => {
  const cwd = scratch(t);
  const documented = readFileSync(new URL('../../../docs/CONFIGURATION.md', import.meta.url), 'utf8');
  const knownIn = (table: string): string[] => {
    writeFileSync(join(cwd, 'elgate.toml'), `${table}\nzzzzzzzzzzzzzzzz = 1\n`);
    const { message } = t.throws<ElgateError>(() => loadConfig({ cwd, env: {} }));
    return /known here: (.*)$/.exec(message)?.[1]?.split(', ') ?? [];
  };
  const tables = { ring: 'ring.', admin: 'admin.', runtime: 'runtime.', files: 'files.', 'routes.a': '' };
  for (const [table, prefix] of Object.entries({
    ...tables,
    'routes.a.retry': 'retry.',
    'routes.a.retain': 'retain.',
  })) {
    const parent = table.startsWith('routes.a.') ? '[routes.a]\nsink = "none"\n' : '';
    const keys = knownIn(`${parent}[${table}]`);
    t.true(keys.length > 0, table);
    for (const key of keys.filter((name) => !['retry', 'retain'].includes(name))) {
      t.true(documented.includes(`| \`${prefix}${key}\` |`), `${prefix}${key}`);
    }
  }
});
