// Phase `storm`: several daemons side by side, each with a ring, logs and programs of its own, killed as soon as they have
// got going, or while they recover, over and over. Many short lives: what one leaves behind the next has to put right.

import { Acknowledged } from '../lib/acknowledged.mjs';
import { startReceiver } from '../lib/far-end.mjs';
import { makeGate } from '../lib/gate.mjs';
import { moment } from '../lib/moments.mjs';
import { ProducerPool } from '../lib/producer-pool.mjs';
import { Sandbox } from '../lib/sandbox.mjs';
import { conclude, FILE_ROUTE, HTTP_ROUTE, routesFor } from '../lib/two-routes.mjs';
import { now, sleep, spin, until } from '../lib/wait.mjs';

const DAEMONS = 3;
const PRODUCERS = 2;
const RESUME_LIMIT_MS = 15_000;
const WAIT_MS = 30_000;
const RECOVERY_SHARE = 0.3;
const SEGMENT_BYTES = 4 << 20;

export async function run({ random, report, kills }) {
  const share = Math.ceil(kills / DAEMONS);
  const lives = Array.from({ length: DAEMONS }, (_, number) => live(random.fork(number), share));
  const outcomes = await Promise.allSettled(lives);
  const done = { flow: 0, recovery: 0, in_flow: 0 };
  for (const [number, { status, value, reason }] of outcomes.entries()) {
    if (status === 'rejected') {
      report.fail(`daemon ${number + 1} came to its end`, reason.stack);
      continue;
    }
    try {
      done.in_flow += await end(value, report);
      done.flow += value.kills.flow;
      done.recovery += value.kills.recovery;
    } finally {
      await value.sandbox.close();
    }
  }
  report.check('the kills landed while data flowed', done.in_flow >= kills * 0.8, `only ${done.in_flow}: NOT MEASURED`);
  report.figures({ kills: done });
  report.note(
    `${done.flow} kills under load, ${done.recovery} in recovery, over ${DAEMONS} daemons; ${done.in_flow} in flow`,
  );
}

/** One daemon's many lives. Its sandbox stays open: what is in it is yet to be checked. */
async function live(random, kills) {
  const sandbox = new Sandbox('storm');
  try {
    const receiver = await startReceiver(sandbox, { seed: random.int(1, 1e6), faults: {} });
    const gate = await makeGate(sandbox, { routes: routesFor(receiver, { retain: { max_bytes: 2 * SEGMENT_BYTES } }) });
    const { daemon } = gate;
    const routes = [FILE_ROUTE, HTTP_ROUTE];
    const seed = random.int(1, 1e6);
    const pool = new ProducerPool(sandbox, { routes, rate: 150, bytes: [20, 8_000], seed, env: gate.env });
    const acknowledged = new Acknowledged(pool);
    const run = { sandbox, receiver, gate, pool, faults: [], resumed: [], kills: { flow: 0, recovery: 0 } };
    await daemon.start().ready();
    for (let number = 1; number <= PRODUCERS; number += 1) pool.start(number);
    let startupMs = 300;

    const flowing = async () => {
      const before = acknowledged.count();
      const since = now();
      await until('records to be acknowledged', () => acknowledged.count() > before, {
        timeoutMs: WAIT_MS,
        everyMs: 2,
        abort: () => daemon.deathReason() ?? pool.deathReason(),
      });
      const ms = now() - since;
      startupMs = startupMs * 0.8 + ms * 0.2;
      run.resumed.push({ label: `kill ${run.faults.length}`, ms, limit: RESUME_LIMIT_MS });
    };

    while (run.faults.length < kills) {
      if (run.faults.length > 0 && random.chance(RECOVERY_SHARE)) {
        await sleep(random.next() * startupMs);
        run.kills.recovery += 1;
      } else {
        await flowing();
        await sleep(random.int(0, 12));
        spin(random.int(0, 800));
        run.kills.flow += 1;
      }
      run.faults.push({ at: moment() });
      await daemon.kill();
      daemon.start();
    }
    await flowing();
    return run;
  } catch (error) {
    await sandbox.close();
    throw error;
  }
}

async function end({ gate, receiver, pool, faults, resumed }, report) {
  await gate.daemon.ready();
  const openFiles = gate.daemon.openFiles();
  const problems = await pool.finish();
  report.check('every producer got the outcome of all it sent', problems.length === 0, problems.join('; '));
  return conclude({ report, gate, receiver, pool, faults, resumed, openFiles });
}
