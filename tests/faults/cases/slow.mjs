// A disk that takes its time: what comes in waits in the ring, which is bounded, and not in memory, which is not.

import fs from 'node:fs';
import { until } from '../../crash/lib/wait.mjs';
import { withFlow } from '../lib/flow.mjs';
import { slotsInUse } from '../lib/ring.mjs';

const DISK_BYTES = 256 << 20;
const DELAY_US = 15_000;
const RECORDS = 1_500;
/** Of 1,020: back-pressure reaches the programs. */
const FULL_SLOTS = 900;
/** Much more than a log holds on to (its window and its tail cache), much less than what is sent meanwhile could be. */
const GROWTH_BYTES_MAX = 96 << 20;

const residentBytes = (pid) =>
  1024 * Number(/^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);

export const run = (context, { backend }) =>
  withFlow(
    context,
    { backend, disk: { bytes: DISK_BYTES }, producers: 4, rate: 1_500, bytes: [500, 4_000], awaits: 0 },
    async (flow) => {
      const { report } = context;
      await flow.flowing('the warm-up', { more: 500 });
      const before = residentBytes(flow.daemon.pid);
      flow.struck();
      await flow.disk.tell(`delay ${DELAY_US}`);
      let most = 0;
      let fullest = 0;
      const target = flow.acknowledged.count() + RECORDS;
      await until(
        `${RECORDS} records to be acknowledged by a slow disk, and the ring to fill up`,
        () => {
          most = Math.max(most, residentBytes(flow.daemon.pid));
          fullest = Math.max(fullest, slotsInUse(flow.gate.ring));
          return flow.acknowledged.count() >= target && fullest >= FULL_SLOTS;
        },
        { timeoutMs: 60_000, everyMs: 5, abort: () => flow.deathReason() },
      );
      await flow.disk.tell('heal');
      await flow.flowing('a slow disk');
      const { delayed } = await flow.disk.stats();
      report.check(
        'the disk was what held it up',
        delayed > 20,
        `${delayed} requests delayed, ${fullest} slots at most: NOT MEASURED`,
      );
      report.check(
        'memory stays bounded',
        most - before < GROWTH_BYTES_MAX,
        `${before} bytes resident before, ${most} at most`,
      );
      await flow.conclude();
      report.figures({ struck: { slow: delayed }, growth_bytes: most - before, ring_slots_max: fullest });
      report.note(
        `${delayed} requests delayed by ${DELAY_US} us; the daemon grew by ${((most - before) / 2 ** 20).toFixed(1)} MiB; ${fullest} of 1,020 slots in use`,
      );
    },
  );
