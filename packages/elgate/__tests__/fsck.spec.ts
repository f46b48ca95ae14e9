// The command's part of `elgate fsck`, on a fake addon: which logs, what is printed, exit codes.

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runFake } from './support/cli.js';
import { scratch } from './support/scratch.js';

/** A data directory with logs of these names. */
function logs(t: ExecutionContext, ...names: string[]): string {
  const dataDir = scratch(t);
  for (const name of names) {
    mkdirSync(join(dataDir, name));
    writeFileSync(join(dataDir, name, `${name}-20260101-001.wal`), '');
  }
  writeFileSync(join(dataDir, '.lock'), '');
  mkdirSync(join(dataDir, 'empty'));
  return dataDir;
}

const codes: [string[], string[], number][] = [
  [['well'], [], 0],
  [['well', 'flipped'], [], 4],
  [['well', 'flipped'], ['--repair'], 1],
  [['flipped', 'lost'], ['--repair'], 5],
  [['lost', 'busy'], ['--repair'], 12],
  [['well', 'lost'], ['well'], 0],
];

for (const [names, args, expected] of codes) {
  test(`exit code ${expected}: ${names.join(' and ')} ${args.join(' ')}`, async (t) => {
    const dataDir = logs(t, ...names);
    const plain = await runFake(['fsck', ...args, '--data-dir', dataDir], { cwd: dataDir });
    t.is(plain.code, expected, plain.stderr + plain.stdout);
    const json = await runFake(['fsck', ...args, '--json', '--data-dir', dataDir], { cwd: dataDir });
    t.is(json.code, expected, json.stderr);
    const report = JSON.parse(json.stdout);
    t.is(report.exit_code, expected);
    t.is(report.repair, args.includes('--repair'));
    t.is(report.logs.length, args[0] === 'well' ? 1 : names.length, 'what is no log is passed over');
  });
}

test('what stands in the place of a log is named, and is an error', async (t) => {
  const dataDir = logs(t, 'well');
  writeFileSync(join(dataDir, 'file'), 'in the way');
  writeFileSync(join(dataDir, 'notes.txt'), 'mine');
  symlinkSync('nowhere', join(dataDir, 'link'));
  symlinkSync(join(logs(t, 'far'), 'far'), join(dataDir, 'far'));
  const all = await runFake(['fsck', '--json', '--data-dir', dataDir]);
  t.is(all.code, 8, all.stderr);
  t.regex(all.stderr, /file: \S+\/file is no directory where a log would be: move it away.*\[ERR_ELGATE_IO\]/);
  t.regex(all.stderr, /link: \S+\/link is a link that leads nowhere/);
  t.is(JSON.parse(all.stdout).logs.length, 4, 'a link to a log is that log; what is no route is passed over');
  for (const name of ['file', 'link']) {
    const one = await runFake(['fsck', name, '--data-dir', dataDir]);
    t.is(one.code, 8);
    t.regex(one.stderr, new RegExp(`${name} is .* where a log would be`));
  }
  const config = join(dataDir, 'elgate.toml');
  writeFileSync(config, 'data_dir = "."\n[routes.well]\nsink = "none"\n');
  const known = await runFake(['fsck', '--json', '--config', config]);
  t.is(JSON.parse(known.stdout).logs.length, 3, "a file that is no route is somebody else's");
  t.is(known.code, 8);
});

test('says file, bytes, records, what it is and the way out', async (t) => {
  const dataDir = logs(t, 'flipped', 'live');
  const { stdout, stderr } = await runFake(['fsck', '--data-dir', dataDir]);
  t.is(stderr, '');
  t.regex(stdout, /flipped: 1 can be repaired \(--repair\)\n/);
  t.regex(
    stdout,
    /FIXABLE {2}flipped-bits: \S+001\.wal, bytes 4096\.\.8192, records 3 to 4\n\s+it was struck\n\s+see to it/,
  );
  t.regex(stdout, /live: all is well\n.*a writer has it open/);
});

test('a mirror holds logs by their names, or is the log', async (t) => {
  const dataDir = logs(t, 'a');
  const mirrorOf = async (mirror: string) => {
    const { stdout } = await runFake(['fsck', 'a', '--json', '--mirror', mirror, '--data-dir', dataDir]);
    return JSON.parse(stdout).logs[0].mirror;
  };
  const root = logs(t, 'a');
  t.is(await mirrorOf(root), join(root, 'a'));
  t.is(await mirrorOf(join(root, 'a')), join(root, 'a'));
});

test('the configured mirror counts without being named, if it is there', async (t) => {
  const dataDir = logs(t, 'a', 'b', 'c');
  const mirror = logs(t, 'a', 'b');
  const table = (name: string, root: string) => `[routes.${name}]\nsink = "none"\nmirror = "${root}"\n`;
  writeFileSync(join(dataDir, 'elgate.toml'), `data_dir = "."\n${table('a', mirror)}${table('c', '/unmounted')}`);
  writeFileSync(join(dataDir, '.added-routes.json'), JSON.stringify({ b: { sink: 'none', mirror } }));
  const mirrors = async (...args: string[]) => {
    const { stdout, stderr } = await runFake(['fsck', '--json', ...args], { cwd: dataDir });
    return { stderr, mirrors: JSON.parse(stdout).logs.map((log: { mirror: string | null }) => log.mirror) };
  };
  const all = await mirrors();
  t.deepEqual(all.mirrors, [join(mirror, 'a'), join(mirror, 'b'), null]);
  t.regex(all.stderr, /c: its mirror \/unmounted\/c is not there/);
  const copied = await mirrors(join(logs(t, 'a'), 'a'));
  t.deepEqual(copied.mirrors, [null], 'a copy of a log is not its route');
});

const refused: [string, string[], number, RegExp][] = [
  ['no such route', ['nothing'], 8, /route nothing has no log in .*\[ERR_ELGATE_ROUTE_UNKNOWN\]/],
  ['no such directory', ['./none'], 8, /none does not exist/],
  ['no data directory', ['--data-dir', './none'], 8, /none is not a directory/],
  ['no logs', ['--data-dir', '.'], 8, /holds no logs/],
  ['a bad name', ['A/B'], 8, /A\/B does not exist/],
  ['a bad route name', ['Nothing'], 16, /"Nothing" is not a route name/],
  ['an unknown option', ['--fix'], 16, /unknown option '--fix'/],
  ['an option without its value', ['--mirror'], 16, /argument missing/],
];

for (const [title, args, code, message] of refused) {
  test(`refused: ${title}`, async (t) => {
    const outcome = await runFake(['fsck', ...args], { cwd: scratch(t) });
    t.is(outcome.code, code, outcome.stderr);
    t.regex(outcome.stderr, message);
    t.is(outcome.stdout, '');
  });
}

test('a log that cannot be checked does not keep the others from it', async (t) => {
  const dataDir = logs(t, 'busy', 'well');
  const { code, stdout, stderr } = await runFake(['fsck', '--repair', '--data-dir', dataDir]);
  t.is(code, 8);
  t.regex(stdout, /well: all is well/);
  t.regex(stderr, /elgate: busy: .* is being written by process 7 \[ERR_ELGATE_IN_USE\]/);
});

test('the help says what the exit codes mean', async (t) => {
  const { code, stdout } = await runFake(['fsck', '--help']);
  t.is(code, 0);
  t.regex(stdout, /Exit codes.*0 all is well.*16 wrong usage/s);
});
