// `log`: the log through its Rust interface and the engine through its ring, beside the bare device
// and beside what else keeps records durably.

import { contest } from '../lib/contest.mjs';
import { Device } from '../lib/device.mjs';
import { medianDistribution, medians, ratio } from '../lib/rounds.mjs';
import { file } from '../peers/file.mjs';
import { fjall } from '../peers/fjall.mjs';
import { redis } from '../peers/redis.mjs';
import { sqlite } from '../peers/sqlite.mjs';
import { offeredLoads } from './loads.mjs';

/** What the backends are compared in. */
const MATRIX = ['append_p50_us', 'append_16_p50_us', 'append_16_per_s', 'bulk_mb_s'];

export async function logCase({ directory, rounds, seconds, quick, plots, progress }) {
  const device = Device.start(directory, { seconds, quick });
  const { auto, ...backends } = await device.backends();
  const others = Object.keys(backends).filter((name) => name !== auto && backends[name] === null);
  let loads;
  const rest = () => device.rest();
  const afterwards = async () => {
    loads = plots && (await offeredLoads(device, { seconds, progress }));
  };
  const results = await contest({ rounds, progress, rest, afterwards }, [
    async () => device.floor(),
    async () => device.elgate(),
    ...others.map((name) => async () => device.backend(name)),
    () => sqlite(directory, seconds),
    () => redis(directory, seconds),
    () => file(directory, seconds),
    () => fjall(directory, seconds),
  ]);
  const { floor, elgate } = results;
  const peers = Object.fromEntries(
    Object.entries(results).filter(([name]) => !['floor', 'elgate', ...others].includes(name)),
  );
  const against = (figure, other, otherFigure = figure) => ratio(elgate, figure, other, otherFigure);
  const matrix = { [auto]: elgate, ...Object.fromEntries(others.map((name) => [name, results[name]])) };
  const { open_log_bytes, ...metrics } = medians(elgate);
  return {
    metrics: {
      ...metrics,
      append_p50_over_floor: against('append_p50_us', floor, 'write_4k_p50_us'),
      append_p95_over_floor: against('append_p95_us', floor, 'write_4k_p95_us'),
      append_mean_over_floor: against('append_mean_us', floor, 'write_4k_mean_us'),
      latency_10k_avg_over_floor: against('latency_10k_avg_us', floor),
      stream_100mb_s_p95_over_floor: against('stream_100mb_s_p95_us', floor),
      bulk_over_floor: against('bulk_mb_s', floor, 'write_256k_mb_s'),
      records_over_redis: against('records_per_s', peers.redis),
      append_p50_over_better_sqlite3: against('append_p50_us', peers['better-sqlite3']),
      append_p50_over_redis: against('append_p50_us', peers.redis),
      append_p50_over_fjall: against('append_p50_us', peers.fjall),
      ...overheads(matrix, auto),
    },
    floor: medians(floor),
    peers: Object.fromEntries(Object.entries(peers).map(([name, figures]) => [name, medians(figures)])),
    backends: Object.fromEntries(
      Object.entries(matrix).map(([name, figures]) => {
        const all = medians(figures);
        return [name, Object.fromEntries(MATRIX.map((figure) => [figure, all[figure]]))];
      }),
    ),
    notes: [
      `the log that is opened after SIGKILL is ${(open_log_bytes / 2 ** 30).toFixed(2)} GiB${quick ? ' (--quick)' : ''}`,
      `${Math.round(device.rested_s)} s were spent waiting for the device to recover from somebody's turn`,
      ...Object.entries(device.commits).map(([name, how]) => `backend ${name === 'auto' ? auto : name} ${how}`),
      ...Object.entries(backends)
        .filter(([, why]) => why !== null)
        .map(([name, why]) => `backend ${name} is not in the table: ${why}`),
    ],
    curves: {
      latencies: Object.fromEntries(
        Object.entries({ floor, elgate, ...peers }).map(([name, figures]) => [name, medianDistribution(figures)]),
      ),
      loads,
    },
  };
}

/** How much longer one append takes on the other backends. */
function overheads(matrix, auto) {
  const { [auto]: own, ...others } = matrix;
  return Object.fromEntries(
    Object.entries(others).map(([name, figures]) => [
      `${name.replaceAll('-', '_')}_append_p50_over_${auto.replaceAll('-', '_')}`,
      ratio(figures, 'append_p50_us', own, 'append_p50_us'),
    ]),
  );
}
