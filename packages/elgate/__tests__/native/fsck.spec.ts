// `elgate fsck` on logs of a real engine.

import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Elgate } from '../../src/index.js';
import { type Outcome, run } from '../support/cli.js';
import { nativeTest, segmentBytes } from '../support/native.js';
import { scratch } from '../support/scratch.js';

/** A log with three records, and the engine that has it open. */
async function open(t: ExecutionContext): Promise<{ gate: Elgate; dataDir: string; directory: string }> {
  const home = scratch(t);
  const dataDir = join(home, 'data');
  const gate = await Elgate.open({
    dataDir,
    ring: join(home, 'ring'),
    routes: { kept: { sink: 'none', segmentBytes } },
  });
  for (const text of ['one', 'two', 'three']) await gate.route('kept').append(text);
  return { gate, dataDir, directory: join(dataDir, 'kept') };
}

function segment(directory: string): string {
  const name = readdirSync(directory).find((entry) => entry.endsWith('.wal'));
  return join(directory, name as string);
}

/** Changes bytes of the first batch's record. */
function strike(path: string, bits: number, length = 1): Buffer {
  const good = readFileSync(path);
  const bad = Buffer.from(good);
  for (let at = 0; at < length; at += 1) bad[4096 + 64 + 32 + at] = (bad[4096 + 64 + 32 + at] as number) ^ bits;
  writeFileSync(path, bad);
  return good;
}

function fsck(dataDir: string, ...args: string[]): Promise<Outcome> {
  return run(['fsck', '--data-dir', dataDir, ...args]);
}

nativeTest('fsck: well, live, repaired, lost, and brought back by a mirror', async (t) => {
  const { gate, dataDir, directory } = await open(t);
  const live = await fsck(dataDir, '--json');
  t.is(live.code, 0, live.stderr);
  const [log] = JSON.parse(live.stdout).logs;
  t.true(log.live);
  t.deepEqual([log.route, log.first_lsn, log.last_lsn, log.findings], ['kept', 1, 3, []]);
  const refused = await fsck(dataDir, '--repair');
  t.is(refused.code, 8);
  t.regex(refused.stderr, new RegExp(`written by process ${process.pid}.*stop that process.*ERR_ELGATE_IN_USE`));
  await gate.close();

  const path = segment(directory);
  const mirror = join(scratch(t), 'mirror');
  mkdirSync(join(mirror, 'kept'), { recursive: true });
  copyFileSync(path, join(mirror, 'kept', path.slice(directory.length + 1)));
  const good = strike(path, 8);
  const found = await fsck(dataDir);
  t.is(found.code, 4, found.stdout);
  t.regex(found.stdout, /FIXABLE {2}flipped-bits: .*bytes 4096\.\.8192, record/);
  t.is((await fsck(dataDir, '--repair')).code, 1);
  t.deepEqual(readFileSync(path), good);
  t.is((await fsck(dataDir)).code, 0);
  t.regex((await run(['doctor', dataDir])).stdout, /WARN {2}damage: .* kept\n\s+run `npx elgate fsck`/);

  strike(path, 0x5a, 3);
  const lost = await fsck(dataDir, '--repair', '--json');
  t.is(lost.code, 4, lost.stdout);
  t.is(JSON.parse(lost.stdout).logs[0].lost_records, 1);
  const restored = await fsck(dataDir, '--repair', '--mirror', mirror);
  t.is(restored.code, 1, restored.stdout + restored.stderr);
  t.deepEqual(readFileSync(path), good);
});

nativeTest('fsck: what is no log is refused and left alone', async (t) => {
  const home = scratch(t);
  mkdirSync(join(home, 'kept'));
  writeFileSync(join(home, 'kept', 'notes.txt'), 'mine');
  const empty = await fsck(home, 'kept', '--repair');
  t.is(empty.code, 8);
  t.regex(empty.stderr, /holds no log.*ERR_ELGATE_ROUTE_UNKNOWN/);
  t.deepEqual(readdirSync(join(home, 'kept')), ['notes.txt']);
  t.is((await fsck(home, '--repair')).code, 8);
  t.is((await fsck(home, 'nobody')).code, 8);
  const { gate, dataDir } = await open(t);
  await gate.close();
  const mirror = await fsck(dataDir, '--mirror', join(home, 'none'));
  t.is(mirror.code, 8);
  t.regex(mirror.stderr, /none\/kept cannot mirror this log/);
});
