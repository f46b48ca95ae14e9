// Bits that flip in segment files at rest. The log opens all the same, serves everything that validates, bytes equal and
// in order, and tells of what it cannot; nothing altered is delivered, and nothing is missing without a word.

import fs from 'node:fs';
import path from 'node:path';
import { makeGate } from '../../crash/lib/gate.mjs';
import { segments } from '../../crash/lib/torn-tail.mjs';

const ROUTE = 'orders';
const BATCHES = 12;
const LINES_PER_BATCH = 40;
/** Flips beyond the last batch hit zeros; most are aimed at what means something. */
const TAIL_SHARE = 0.1;
const BLOCK = 4096;

export async function run({ sandbox, random, report, flips }) {
  const gate = await makeGate(sandbox, {
    routes: { [ROUTE]: { sink: 'file', path: 'orders.log', segment_bytes: 4 << 20, paused: true } },
  });
  const { daemon } = gate;
  await daemon.start().ready();
  const sent = [];
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const lines = Array.from({ length: LINES_PER_BATCH }, (_, index) => line(random, sent.length + index));
    const put = await sandbox.cli(['put', ROUTE, '--json', '--config', gate.config], {
      input: `${lines.join('\n')}\n`,
    });
    if (put.code !== 0) throw new Error(`put failed: ${put.stderr}`);
    sent.push(...lines);
  }
  await daemon.stop();
  const pristine = sandbox.path('pristine');
  fs.cpSync(gate.dataDir, pristine, { recursive: true });

  const outcomes = { harmless: 0, reported: 0, records_lost: 0 };
  const wrong = [];
  for (let flip = 1; flip <= flips; flip += 1) {
    fs.rmSync(gate.dataDir, { recursive: true });
    fs.cpSync(pristine, gate.dataDir, { recursive: true });
    fs.rmSync(gate.outputOf(ROUTE), { force: true });
    const where = flipBit(gate.dataDir, random);
    await daemon.start().ready();
    await daemon.post(`/routes/${ROUTE}/resume`);
    await gate.drained([ROUTE]);
    const row = (await daemon.status()).routes.find(({ name }) => name === ROUTE);
    await daemon.kill();
    const missing = compare(sent, fs.readFileSync(gate.outputOf(ROUTE), 'utf8').split('\n').slice(0, -1));
    if (typeof missing === 'string') wrong.push(`${where}: ${missing}`);
    else if (missing > 0 && (row.damage === null || row.lost_records !== missing))
      wrong.push(
        `${where}: ${missing} records are missing, ${row.lost_records} are reported: ${JSON.stringify(row.damage)}`,
      );
    outcomes[row.damage === null ? 'harmless' : 'reported'] += 1;
    outcomes.records_lost += typeof missing === 'number' ? missing : 0;
  }
  report.check(
    'nothing altered, disordered, or missing without a word',
    wrong.length === 0,
    wrong.slice(0, 3).join('; '),
  );
  report.check('flips were found', outcomes.reported > 0, 'none: NOT MEASURED');
  report.figures({ flips: { ...outcomes, flips, silent: wrong.length } });
  report.note(
    `${flips} bits flipped: ${outcomes.harmless} did no harm, ${outcomes.reported} were reported, with ${outcomes.records_lost} of ${flips * sent.length} records lost to them`,
  );
}

export const line = (random, number) =>
  `record ${number} ${'abcdefghij'.repeat(40).slice(random.int(0, 200), 200 + random.int(0, 200))}`;

/** How many of `sent` are missing from `found`, or what is wrong with what is there. */
export function compare(sent, found) {
  let at = 0;
  for (const entry of found) {
    const next = sent.indexOf(entry, at);
    if (next < 0) return `delivered, but not sent, or out of order, or twice: ${entry.slice(0, 60)}`;
    at = next + 1;
  }
  return sent.length - found.length;
}

/** Flips one bit of a segment that is in use; returns where. */
function flipBit(dataDir, random) {
  const { file, end, size } = random.pick(segments(dataDir, ROUTE).filter(({ batches }) => batches > 0));
  const limit = random.chance(TAIL_SHARE) ? Math.min(size, end + 2 * BLOCK) : end;
  const offset = random.int(0, limit - 1);
  const bit = random.int(0, 7);
  const descriptor = fs.openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(descriptor, byte, 0, 1, offset);
  byte[0] ^= 1 << bit;
  fs.writeSync(descriptor, byte, 0, 1, offset);
  fs.closeSync(descriptor);
  return `${path.basename(file)}, byte ${offset}, bit ${bit}`;
}
