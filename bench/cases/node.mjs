// `node`: the library from JavaScript, embedded engine, beside what a Node program would otherwise
// use for durable appends. 128-byte records; every figure but `post_ns` counts only what is durable.

import { join } from 'node:path';
import { contest } from '../lib/contest.mjs';
import { Device } from '../lib/device.mjs';
import { blank, Numbered } from '../lib/payload.mjs';
import { medians, ratio } from '../lib/rounds.mjs';
import { manyAtOnce, oneAtATime, percentile } from '../lib/samples.mjs';
import { file } from '../peers/file.mjs';
import { redis } from '../peers/redis.mjs';
import { sqlite } from '../peers/sqlite.mjs';

const ROUTE = 'bench';
const RECORDS_PER_GROUP = 1000;

export async function nodeCase({ directory, rounds, seconds, quick, progress }) {
  const device = Device.start(directory, { seconds, quick });
  const results = await contest({ rounds, progress, rest: () => device.rest() }, [
    async () => ({ ...device.floor(), paced: undefined, close: () => device.close(), kill: () => device.kill() }),
    () => elgate(directory, seconds),
    () => sqlite(directory, seconds),
    () => redis(directory, seconds),
    () => file(directory, seconds),
  ]);
  const { floor, elgate: own, ...peers } = results;
  const against = (figure, other, otherFigure) => ratio(own, figure, other, otherFigure);
  return {
    metrics: {
      ...medians(own),
      append_p50_over_floor: against('append_p50_us', floor, 'write_4k_p50_us'),
      append_p50_over_better_sqlite3: against('append_p50_us', peers['better-sqlite3'], 'append_p50_us'),
      append_p50_over_redis: against('append_p50_us', peers.redis, 'append_p50_us'),
      append_256_over_redis: against('append_256_per_s', peers.redis, 'append_256_per_s'),
      append_many_over_better_sqlite3: against('append_many_per_s', peers['better-sqlite3'], 'append_many_per_s'),
    },
    floor: medians(floor),
    peers: Object.fromEntries(Object.entries(peers).map(([name, figures]) => [name, medians(figures)])),
  };
}

async function elgate(directory, seconds) {
  const { Elgate } = await import('../../packages/elgate/dist/index.js');
  // Everything is read back at the end, so everything is kept.
  const routes = { [ROUTE]: { sink: 'none', retain: { maxBytes: 0, maxAgeS: 0 } } };
  const gate = await Elgate.open({ dataDir: join(directory, 'elgate'), routes });
  const route = gate.route(ROUTE);
  const numbered = new Numbered();
  const memories = Array.from({ length: RECORDS_PER_GROUP }, blank);
  const append = () => route.append(numbered.next(memories[0]));
  const group = () => {
    for (const memory of memories) numbered.next(memory);
    return route.appendMany(memories);
  };

  async function* stored() {
    for await (const record of gate.tail(ROUTE, { from: 'start', follow: false })) yield record.data;
  }

  /** Nanoseconds that a `post` keeps the program; waiting for room is not part of it. */
  async function post() {
    let calls = 0;
    let busy_ms = 0;
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      for (const memory of memories) numbered.next(memory);
      for (let sent = 0; sent < memories.length; ) {
        const before = performance.now();
        const first = sent;
        let room = true;
        while (room && sent < memories.length) {
          room = route.post(memories[sent]);
          sent += room ? 1 : 0;
        }
        busy_ms += performance.now() - before;
        calls += sent - first;
        if (!room) await route.drained();
      }
    }
    // What was posted is part of the log before the next measurement begins.
    await append();
    return (busy_ms * 1e6) / calls;
  }

  return {
    name: 'elgate',
    async single() {
      const { samples_us, per_s } = await oneAtATime(seconds, append);
      return {
        append_p50_us: percentile(samples_us, 50),
        append_p95_us: percentile(samples_us, 95),
        append_per_s: per_s,
      };
    },
    async volume() {
      const append_256_per_s = await manyAtOnce(seconds, 256, append);
      const append_1024_per_s = await manyAtOnce(seconds, 1024, append);
      const grouped = await oneAtATime(seconds, group);
      return {
        append_256_per_s,
        append_1024_per_s,
        append_many_per_s: grouped.per_s * RECORDS_PER_GROUP,
        post_ns: await post(),
      };
    },
    async close() {
      await numbered.verify('elgate', stored());
      await gate.close();
    },
  };
}
