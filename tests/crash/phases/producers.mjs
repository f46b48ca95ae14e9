// Phase `producers`: several programs share the ring; they and the daemon are killed at random, and programs are stopped
// for a while in the middle of whatever they were doing. The oracle journals tell afterwards what had to hold.

import { startReceiver } from '../lib/far-end.mjs';
import { makeGate } from '../lib/gate.mjs';
import { moment } from '../lib/moments.mjs';
import { ProducerPool } from '../lib/producer-pool.mjs';
import { conclude, FILE_ROUTE, HTTP_ROUTE, routesFor } from '../lib/two-routes.mjs';
import { now, sleep, until } from '../lib/wait.mjs';

const PRODUCERS = 4;
const RESUME_LIMIT_MS = 15_000;
const FAULTS = { error: 0.01, slow: 0.002, drop_before: 0.004, drop_after: 0.006, garbage: 0.003, cut: 0.003 };

export async function run({ sandbox, random, report, kills }) {
  const receiver = await startReceiver(sandbox, { seed: random.int(1, 1e6), faults: FAULTS });
  const gate = await makeGate(sandbox, { routes: routesFor(receiver) });
  const { daemon } = gate;
  await daemon.start().ready();

  const routes = [FILE_ROUTE, HTTP_ROUTE];
  const pool = new ProducerPool(sandbox, {
    routes,
    rate: 300,
    bytes: [20, 6_000],
    seed: random.int(1, 1e6),
    env: gate.env,
  });
  for (let number = 1; number <= PRODUCERS; number += 1) pool.start(number);

  const progress = () => gate.durable(FILE_ROUTE) + gate.durable(HTTP_ROUTE);
  const abort = () => daemon.deathReason() ?? pool.deathReason();
  const faults = [];
  const resumed = [];
  const done = { daemon: 0, producer: 0, stop: 0 };

  while (done.daemon + done.producer < kills) {
    const before = progress();
    const since = now();
    await until('records to become durable', () => progress() > before, { timeoutMs: 30_000, abort });
    if (done.daemon + done.producer > 0)
      resumed.push({ label: 'the fault before', ms: now() - since, limit: RESUME_LIMIT_MS });
    await sleep(random.int(0, 120));

    const number = random.pick(pool.numbers);
    const draw = random.next();
    if (draw < 0.2) {
      done.stop += 1;
      faults.push({ at: moment(), producer: number });
      pool.signal(number, 'SIGSTOP');
      await sleep(random.int(10, 200));
      // A stopped program is waited for, and may be killed as it stands there.
      if (random.chance(0.3)) {
        done.producer += 1;
        await pool.kill(number);
        pool.start(number);
      } else {
        pool.signal(number, 'SIGCONT');
      }
    } else if (draw < 0.6) {
      done.producer += 1;
      faults.push({ at: moment(), producer: number });
      await pool.kill(number);
      pool.start(number);
    } else {
      done.daemon += 1;
      faults.push({ at: moment() });
      await daemon.kill();
      if (random.chance(0.3)) {
        done.producer += 1;
        await pool.kill(number);
        pool.start(number);
      }
      daemon.start();
    }
  }

  await daemon.ready();
  const openFiles = daemon.openFiles();
  const problems = await pool.finish();
  report.check('every surviving producer got the outcome of all it sent', problems.length === 0, problems.join('; '));
  const injected = await conclude({ report, gate, receiver, pool, faults, resumed, openFiles });
  const enough = injected >= Math.ceil(faults.length * 0.8);
  report.check('the faults landed while data flowed', enough, `only ${injected} of ${faults.length}: NOT MEASURED`);
  report.figures({ kills: { daemon: done.daemon, producer: done.producer, stopped: done.stop, in_flow: injected } });
  report.note(
    `${done.daemon} daemon kills, ${done.producer} producer kills, ${done.stop} stops; ${injected} of ${faults.length} faults in flow`,
  );
}
