// Processes that are stopped for a while: the daemon, and a program in the middle of claiming its place in the ring.
// Nobody takes them for dead, the others wait or are told to, and all goes on when they do.

import fs from 'node:fs';
import { FAILPOINTS_ADDON } from '../../crash/lib/sandbox.mjs';
import { until } from '../../crash/lib/wait.mjs';
import { withFlow } from '../lib/flow.mjs';
import { slotsInUse } from '../lib/ring.mjs';

/** Of 1,020: full enough that the next submission may have to wait. */
const FULL_SLOTS = 900;
const ROUNDS = 3;
/** So many programs, each with so much outstanding, that together they fill the ring. */
const PRODUCERS = 5;
const BYTES = [2_000, 16_000];

const ringFills = (flow) =>
  until('the ring to fill up', () => slotsInUse(flow.gate.ring) >= FULL_SLOTS, {
    timeoutMs: 20_000,
    everyMs: 5,
    abort: () => flow.deathReason(),
  });

const ringOf = async (flow) => (await flow.daemon.status()).shards[0].rings[0];

export const daemon = (context, { backend }) =>
  withFlow(context, { backend, producers: PRODUCERS, bytes: BYTES, awaits: 0 }, async (flow) => {
    const { pid } = flow.daemon;
    for (let round = 1; round <= ROUNDS; round += 1) {
      flow.struck();
      flow.daemon.signal('SIGSTOP');
      await ringFills(flow);
      flow.daemon.signal('SIGCONT');
      await flow.flowing(`stop ${round}`, { more: 200 });
    }
    const ring = await ringOf(flow);
    const { report } = context;
    report.check(
      'nobody took anybody for dead',
      ring.aborted_total === 0 && ring.replaced_total === 0,
      JSON.stringify(ring),
    );
    report.check(
      'it is the same daemon, with the same programs',
      flow.daemon.pid === pid && ring.participants === PRODUCERS,
      JSON.stringify(ring),
    );
    await flow.conclude();
    report.figures({ struck: { sigstop_daemon: ROUNDS } });
  });

export const producer = (context, { backend }) =>
  withFlow(context, { backend, producers: PRODUCERS, bytes: BYTES, awaits: 0 }, async (flow) => {
    const { report, random } = context;
    if (!fs.existsSync(FAILPOINTS_ADDON)) {
      report.fail('the addon with kill sites is built', 'build it with: node scripts/build-native.mjs --failpoints');
      return;
    }
    const sites = ['ring.claimed', 'ring.before_commit', 'ring.committed'];
    let number = PRODUCERS;
    for (const site of sites) {
      number += 1;
      const child = flow.pool.start(number, {
        ELGATE_NATIVE: FAILPOINTS_ADDON,
        ELGATE_STOP_SITE: `${site}:${random.int(1, 30)}`,
      });
      await until(`a producer to be stopped at ${site}`, () => isStopped(child.pid), {
        timeoutMs: 20_000,
        abort: () => flow.deathReason(),
      });
      flow.faults.push({ at: process.hrtime.bigint(), producer: number });
      if (site === 'ring.committed') {
        await flow.flowing(`a program stopped at ${site}`, { more: 200 });
      } else {
        // Its place is taken and not filled: whoever comes behind waits, however long it takes.
        await ringFills(flow);
        const ring = await ringOf(flow);
        report.check(`${site}: it is waited for, not reclaimed`, ring.aborted_total === 0, JSON.stringify(ring));
      }
      flow.pool.signal(number, 'SIGCONT');
      await flow.flowing(`a program stopped at ${site}`, { more: 200 });
    }
    const ring = await ringOf(flow);
    report.check(
      'nobody took anybody for dead',
      ring.aborted_total === 0 && ring.replaced_total === 0,
      JSON.stringify(ring),
    );
    await flow.conclude();
    report.figures({ struck: { sigstop_producer: sites.length } });
  });

const isStopped = (pid) => /^State:\s+T/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
