// `log`: the log through its Rust interface, on the shard's own driver, beside the bare device.

import { contest } from '../lib/contest.mjs';
import { Device } from '../lib/device.mjs';
import { medians, ratio } from '../lib/rounds.mjs';
import { file } from '../peers/file.mjs';
import { redis } from '../peers/redis.mjs';
import { sqlite } from '../peers/sqlite.mjs';

export async function logCase({ directory, rounds, seconds, progress }) {
  const device = await Device.start(directory);
  const results = await contest({ rounds, progress }, [
    async () => ({ ...device.contestant('floor', seconds), close: async () => {} }),
    async () => ({ ...device.contestant('log', seconds), name: 'elgate' }),
    () => sqlite(directory, seconds),
    () => redis(directory, seconds),
    () => file(directory, seconds),
  ]);
  const { floor, elgate, ...peers } = results;
  const against = (figure, other, otherFigure) => ratio(elgate, figure, other, otherFigure);
  return {
    metrics: {
      ...medians(elgate),
      append_p50_over_floor: against('append_p50_us', floor, 'write_4k_p50_us'),
      append_mean_over_floor: against('append_mean_us', floor, 'write_4k_mean_us'),
      bulk_over_floor: against('bulk_mb_s', floor, 'write_256k_mb_s'),
      append_p50_over_better_sqlite3: against('append_p50_us', peers['better-sqlite3'], 'append_p50_us'),
      append_p50_over_redis: against('append_p50_us', peers.redis, 'append_p50_us'),
    },
    floor: medians(floor),
    peers: Object.fromEntries(Object.entries(peers).map(([name, figures]) => [name, medians(figures)])),
  };
}
