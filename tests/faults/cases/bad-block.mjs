// A block of a log that the disk cannot read, now and after every restart. The daemon starts all the same, serves what is
// around it in order, tries for a while, then tells what is missing and goes on.

import fs from 'node:fs';
import { makeGate } from '../../crash/lib/gate.mjs';
import { FaultyDisk } from '../lib/disk.mjs';
import { segmentFiles } from '../lib/segments.mjs';
import { compare, line } from './rot.mjs';

const ROUTE = 'orders';
const DISK = { bytes: 128 << 20, journal: false, options: 'errors=continue' };
const SEGMENT_BYTES = 4 << 20;
const BATCHES = 12;
const LINES_PER_BATCH = 40;
const BLOCK = 4096;

export async function run({ sandbox, random, report }, { backend }) {
  const disk = await FaultyDisk.make(sandbox, DISK);
  const gate = await makeGate(sandbox, {
    routes: { [ROUTE]: { sink: 'file', path: 'orders.log', segment_bytes: SEGMENT_BYTES, paused: true } },
    directory: disk.mountpoint,
    env: { ELGATE_BACKEND: backend },
  });
  const { daemon } = gate;
  await daemon.start().ready();
  const sent = [];
  const put = async (count) => {
    const lines = Array.from({ length: count }, (_, index) => line(random, sent.length + index));
    const input = `${lines.join('\n')}\n`;
    const done = await sandbox.cli(['put', ROUTE, '--json', '--config', gate.config], { input });
    if (done.code !== 0) throw new Error(`put failed: ${done.stderr}`);
    sent.push(...lines);
  };
  for (let batch = 0; batch < BATCHES; batch += 1) await put(LINES_PER_BATCH);

  // Down, and the kernel's copies of the files gone, so that the next start reads the disk.
  await daemon.kill();
  await disk.umount();
  await disk.mount();
  const [segment] = segmentFiles(gate, ROUTE);
  const { from, to } = await disk.extentOf(segment);
  if (to - from !== SEGMENT_BYTES) throw new Error(`${segment} is not in one piece: NOT MEASURED`);
  const bad = from + random.int(2, 20) * BLOCK;
  await disk.tell(`fail read 0 0 ${bad} ${bad + BLOCK}`);

  await daemon.start().ready();
  report.check('a daemon starts on a log with a bad block', true);
  await put(LINES_PER_BATCH);
  await daemon.post(`/routes/${ROUTE}/resume`);
  await gate.drained([ROUTE]);
  const row = (await daemon.status()).routes.find(({ name }) => name === ROUTE);
  const struck = (await disk.stats()).failed.read;
  await daemon.stop();
  const missing = compare(sent, fs.readFileSync(gate.outputOf(ROUTE), 'utf8').split('\n').slice(0, -1));
  report.check('what is delivered is in order and unaltered', typeof missing === 'number', missing);
  report.check('all but the records of the block are delivered', missing <= LINES_PER_BATCH, `${missing} are missing`);
  report.check(
    'what is missing is reported',
    row.lost_records === missing && (missing === 0 || tells(row)),
    JSON.stringify(row),
  );
  report.check('the block was read', struck > 0, 'never: NOT MEASURED');
  report.figures({ struck: { bad_block_reads: struck } });
  report.note(`${struck} reads failed; ${missing} of ${sent.length} records lost to a bad block`);

  await disk.umount();
  await disk.close();
}

const tells = (row) => [row.last_error, row.damage].some((said) => /device cannot read/.test(JSON.stringify(said)));
