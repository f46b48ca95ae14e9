// A gate on a faulty disk under load: a daemon whose logs and output are on that disk, an HTTP far end and producers
// that are not, and what every case asks of them: is it flowing, did it resume, does everything hold at the end.

import fs from 'node:fs';
import path from 'node:path';
import { Acknowledged } from '../../crash/lib/acknowledged.mjs';
import { startReceiver } from '../../crash/lib/far-end.mjs';
import { makeGate } from '../../crash/lib/gate.mjs';
import { moment } from '../../crash/lib/moments.mjs';
import { ProducerPool } from '../../crash/lib/producer-pool.mjs';
import { conclude, FILE_ROUTE, HTTP_ROUTE, routesFor } from '../../crash/lib/two-routes.mjs';
import { now, until } from '../../crash/lib/wait.mjs';
import { FaultyDisk } from './disk.mjs';

export const ROUTES = [FILE_ROUTE, HTTP_ROUTE];
const SEGMENT_BYTES = 4 << 20;
/** From a fault's end, or a start, until records are acknowledged again. */
const RESUME_LIMIT_MS = 15_000;

export class Flow {
  faults = [];
  resumed = [];

  /**
   * `disk` are options of FaultyDisk.make, or nothing for the sandbox's own directory; `backend` is uring or poll;
   * `producers`, `rate`, `bytes` and `awaits` say what comes in; `retain` is in segments.
   */
  static async start(context, options = {}) {
    const { disk, backend, env = {}, prefix, args } = options;
    const { producers = 2, rate = 300, bytes = [20, 8_000], awaits, retain = 2 } = options;
    const flow = new Flow();
    const { sandbox, random } = context;
    Object.assign(flow, { sandbox, random, report: context.report });
    if (disk) flow.disk = await FaultyDisk.make(sandbox, disk);
    flow.receiver = await startReceiver(sandbox, { seed: random.int(1, 1e6), faults: {} });
    flow.gate = await makeGate(sandbox, {
      routes: routesFor(flow.receiver, { retain: { max_bytes: retain * SEGMENT_BYTES } }),
      directory: flow.disk?.mountpoint,
      env: { ...(backend && { ELGATE_BACKEND: backend }), ...env },
      prefix,
      args,
    });
    flow.daemon = flow.gate.daemon;
    const seed = random.int(1, 1e6);
    flow.pool = new ProducerPool(sandbox, { routes: ROUTES, rate, bytes, seed, awaits, env: flow.gate.env });
    flow.acknowledged = new Acknowledged(flow.pool);
    await flow.daemon.start().ready();
    for (let number = 1; number <= producers; number += 1) flow.pool.start(number);
    await flow.flowing('the first start');
    return flow;
  }

  /** Why nothing can be expected any more. */
  deathReason() {
    return this.daemon.deathReason() ?? this.pool.deathReason();
  }

  /** Waits until `more` records are acknowledged, and notes how long that took. */
  async flowing(label, { more = 20, timeoutMs = 30_000 } = {}) {
    const before = this.acknowledged.count();
    const since = now();
    await until(`${more} records to be acknowledged after ${label}`, () => this.acknowledged.count() >= before + more, {
      timeoutMs,
      abort: () => this.deathReason(),
    });
    this.resumed.push({ label, ms: now() - since, limit: RESUME_LIMIT_MS });
  }

  /** Waits for the daemon to acknowledge again, or to end by itself: then its outcome. */
  async endedOrFlowing(timeoutMs = 30_000) {
    const before = this.acknowledged.count();
    return until(
      'records to be acknowledged, or the daemon to end',
      () => {
        if (!this.daemon.alive) return { ended: true };
        return this.acknowledged.count() > before && { ended: false };
      },
      { timeoutMs, abort: () => this.pool.deathReason() },
    ).then(({ ended }) => ended);
  }

  /** Notes that a fault strikes now. */
  struck() {
    this.faults.push({ at: moment() });
  }

  /** A route's row of the status. */
  async state(route = FILE_ROUTE) {
    return (await this.daemon.status()).routes.find(({ name }) => name === route);
  }

  /**
   * Waits for a route to be parked, and checks that its status says why. Which one is first is chance, and the other may
   * follow or not: a producer that waits for one route sends nothing to the other.
   */
  async parked(label, words) {
    const row = await until(
      `a route to be parked by ${label}`,
      async () => (await this.daemon.status().catch(() => undefined))?.routes.find(({ state }) => state === 'parked'),
      { timeoutMs: 30_000, everyMs: 10, abort: () => this.deathReason() },
    );
    const { code, message } = row.last_error ?? {};
    // Its sink may be in the same trouble, and have the last word.
    const tells = /^ERR_ELGATE_(LOG_UNAVAILABLE|IO)$/.test(code) && words.test(message);
    this.report.check(`${label}: ${row.name} is parked and says why`, tells, JSON.stringify(row.last_error));
  }

  /** Waits until no route is parked any more and records are acknowledged again. */
  async unparked(label) {
    await until(
      `all routes to resume after ${label}`,
      async () => (await this.daemon.status().catch(() => undefined))?.routes.every(({ state }) => state !== 'parked'),
      { timeoutMs: 30_000, everyMs: 10, abort: () => this.deathReason() },
    );
    await this.flowing(label);
  }

  /** The power fails. `whole`: for the programs and their ring in memory as well. Everything is off when this returns. */
  async cutPower(survivors, { whole = false, moment } = {}) {
    this.struck();
    const lost = await this.disk.cut(
      survivors,
      this.random.int(1, 1e9),
      async () => {
        const numbers = whole ? this.pool.numbers : [];
        await Promise.all([
          this.daemon.alive && this.daemon.kill(),
          ...numbers.map((number) => this.pool.kill(number)),
        ]);
      },
      moment,
    );
    if (whole) this.#loseMemory();
    return lost;
  }

  /** What is in shared memory does not survive a power cut. */
  #loseMemory() {
    const own = path.basename(this.gate.ring);
    for (const name of fs.readdirSync('/dev/shm'))
      if (name === own || name.startsWith(`${own}.`)) fs.rmSync(path.join('/dev/shm', name));
  }

  /** Ends the load, drains, recovers again and reports on I1 to I8; returns how many faults landed in flow. */
  async conclude() {
    const { report, gate, receiver, pool, faults, resumed } = this;
    await this.daemon.ready();
    const openFiles = this.daemon.openFiles();
    const problems = await pool.finish();
    report.check('every surviving producer got the outcome of all it sent', problems.length === 0, problems.join('; '));
    const landed = await conclude({ report, gate, receiver, pool, faults, resumed, openFiles });
    return landed;
  }

  /** Down with the disk, once nobody uses it. */
  async close() {
    if (this.daemon.alive) await this.daemon.kill();
    await this.disk?.close();
  }
}

/** Runs `body` with a flow that is taken down afterwards. */
export async function withFlow(context, options, body) {
  const flow = await Flow.start(context, options);
  try {
    return await body(flow);
  } finally {
    await flow.close();
  }
}
