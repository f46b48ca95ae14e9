// Power cuts: the disk forgets what was not flushed, all of it, some of it, or parts of it, at any moment under load, with
// segments rolled and removed and cursors saved all the while. What was acknowledged is there afterwards.

import { sleep } from '../../crash/lib/wait.mjs';
import { withFlow } from '../lib/flow.mjs';

const DISK_BYTES = 1 << 30;
const SURVIVORS = ['none', 'none', 'prefix', 'subset', 'sectors', 'sectors', 'all'];
/** Of the cuts, those that take the programs and the ring in memory along; the others are of the disk alone. */
const WHOLE_SHARE = 0.2;
/** At most so many may find nothing unflushed, or let all of it survive. */
const LOSSLESS_SHARE_MAX = 0.7;
/** Cuts so soon after the start that it is still recovering. */
const RECOVERY_SHARE = 0.15;
const RECOVERY_MS = 250;

export const run = (context, { backend, cuts }) =>
  withFlow(context, { backend, disk: { bytes: DISK_BYTES }, bytes: [20, 16_000] }, async (flow) => {
    const { random, report } = context;
    const done = { cuts: 0, whole: 0, recovering: 0, lossless: 0, dropped: 0, torn: 0 };
    while (done.cuts < cuts) {
      if (done.cuts > 0 && random.chance(RECOVERY_SHARE)) {
        await sleep(random.int(0, RECOVERY_MS));
        done.recovering += 1;
      } else {
        await flow.flowing(`cut ${done.cuts}`);
        await sleep(random.int(0, 60));
      }
      // Between a write and its flush, or anywhere.
      const moment = random.chance(0.85)
        ? `${random.pick(['write', 'flush', 'flush'])} ${random.int(0, 20)}`
        : undefined;
      const whole = random.chance(WHOLE_SHARE);
      const lost = await flow.cutPower(random.pick(SURVIVORS), { whole, moment });
      done.cuts += 1;
      done.whole += whole;
      done.dropped += lost.dropped;
      done.torn += lost.torn;
      done.lossless += lost.dropped + lost.torn === 0;
      flow.daemon.start();
      if (whole) for (const number of flow.pool.numbers) flow.pool.start(number);
    }
    await flow.flowing('the last cut');
    const landed = await flow.conclude();
    const removed = flow.gate.head('orders')?.first ?? 0;
    report.check('cuts landed while data flowed', landed >= cuts * 0.8, `only ${landed} of ${cuts}: NOT MEASURED`);
    report.check(
      'cuts lost and tore writes',
      done.lossless <= cuts * LOSSLESS_SHARE_MAX && done.dropped > 0 && done.torn > 0,
      `${done.lossless} of ${cuts} lost nothing, ${done.dropped} writes dropped, ${done.torn} torn: NOT MEASURED`,
    );
    report.check(
      'segments were rolled and removed meanwhile',
      removed > 1,
      `the first LSN is ${removed}: NOT MEASURED`,
    );
    report.figures({ power_cuts: { ...done, in_flow: landed } });
    report.note(
      `${done.cuts} power cuts (${done.whole} with the programs, ${done.recovering} soon after a start, ${landed} in flow, ${done.lossless} lossless): ${done.dropped} unflushed writes dropped, ${done.torn} torn`,
    );
  });
