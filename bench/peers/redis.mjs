// Redis as a durable stream: XADD with appendfsync always, over a private Unix socket.

import { once } from 'node:events';
import { join } from 'node:path';
import { start } from '../lib/children.mjs';
import { Numbered } from '../lib/payload.mjs';
import { distribution, manyAtOnce, oneAtATime, percentile } from '../lib/samples.mjs';
import { Flood } from './redis_flood.mjs';

const STREAM = 'records';
const OUTSTANDING = 256;
const READ_AT_ONCE = 10_000;
const FLOODS = 4;

export async function redis(directory, seconds) {
  const { default: Redis } = await import('ioredis');
  const socket = join(directory, 'redis.sock');
  const settings = {
    port: 0,
    unixsocket: socket,
    dir: directory,
    appendonly: 'yes',
    appendfsync: 'always',
    save: '',
    // No rewriting of the file in the background, at anybody's cost.
    'auto-aof-rewrite-percentage': 0,
    logfile: 'redis.log',
  };
  const options = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const server = start('redis-server', options, { stdio: ['ignore', 'ignore', 'inherit'] });
  const started = new Promise((_, reject) => server.once('error', reject));
  const connect = (options) =>
    new Redis({
      path: socket,
      retryStrategy: (attempt) => (attempt <= 200 ? 25 : null),
      maxRetriesPerRequest: null,
      ...options,
    });
  const client = connect({});
  // A command of its own per call, or many calls in one write: Redis is at its best with each.
  const pipelined = connect({ enableAutoPipelining: true });
  client.on('error', () => {});
  pipelined.on('error', () => {});
  await Promise.race([Promise.all([client.ping(), pipelined.ping()]), started]);
  await requireDurable(client);

  const numbered = new Numbered();
  const add = (connection) => connection.xadd(STREAM, '*', 'p', numbered.next());
  const floods = await Promise.all(Array.from({ length: FLOODS }, (_, index) => Flood.open(socket, `flood-${index}`)));
  async function* stored(stream) {
    let from = '-';
    for (;;) {
      const entries = await client.xrangeBuffer(stream, from, '+', 'COUNT', READ_AT_ONCE);
      for (const [, [, payload]] of entries) yield payload;
      if (entries.length < READ_AT_ONCE) return;
      from = `(${entries.at(-1)[0]}`;
    }
  }
  return {
    name: 'redis',
    async single() {
      const { samples_us, per_s } = await oneAtATime(seconds, () => add(client));
      return {
        append_p50_us: percentile(samples_us, 50),
        append_p95_us: percentile(samples_us, 95),
        append_per_s: per_s,
        latency_us: distribution(samples_us),
      };
    },
    async volume() {
      const append_256_per_s = await manyAtOnce(seconds, OUTSTANDING, () => add(pipelined));
      const begin = performance.now();
      const counts = await Promise.all(floods.map((flood) => flood.run(seconds)));
      const took = (performance.now() - begin) / 1000;
      for (const flood of floods) await flood.verify(client, stored);
      return { append_256_per_s, records_per_s: counts.reduce((sum, count) => sum + count) / took };
    },
    async close() {
      await numbered.verify('redis', stored(STREAM));
      for (const flood of floods) flood.close();
      const ended = once(server, 'exit');
      client.disconnect();
      pipelined.disconnect();
      server.kill('SIGTERM');
      await ended;
    },
    kill: () => server.kill('SIGKILL'),
  };
}

async function requireDurable(client) {
  const [, value] = await client.config('GET', 'appendfsync');
  if (value !== 'always') throw new Error(`redis runs with appendfsync ${value}, which is not the same durability`);
}
