// `elgate status`: the daemon's account of itself.

import { Command } from 'commander';
import { callControl } from '../../control/client.js';
import type { BuildInfo, EngineStatus, IoStatus } from '../../native/binding.js';
import { controlFor, type WhereOptions, withFlags } from '../locate.js';
import { bytes, count, print, printJson, table } from '../output.js';

interface Status extends EngineStatus {
  phase: string;
  pid: number;
  build: BuildInfo;
  config: string | null;
}

export function statusCommand(): Command {
  const command = new Command('status')
    .description('routes, watermarks, load and memory of the running daemon')
    .option('--json', 'as one JSON object')
    .action(async (options: WhereOptions & { json?: boolean }) => {
      const status = await callControl<Status>(controlFor(options), 'GET', '/status');
      if (options.json) printJson(status);
      else print(render(status));
    });
  return withFlags(command, 'config', 'admin');
}

function render(status: Status): string {
  const { build } = status;
  const shards = status.shards.map(({ index, pinned_core, backend, busy_ratio }) => [
    index,
    pinned_core ?? 'not pinned',
    backend,
    `${(busy_ratio * 100).toFixed(1)} %`,
  ]);
  const rings = status.shards
    .flatMap((shard) => shard.rings)
    .map((ring) => [
      ring.path,
      `${ring.used_slots}/${ring.slots}`,
      ring.set_aside,
      ring.participants,
      ring.corrupt_total,
    ]);
  const routes = status.routes.map((route) => [
    route.name,
    route.sink,
    route.state,
    count(route.durable_lsn),
    count(route.delivered_lsn),
    count(route.lag_records),
    bytes(route.wal_bytes),
    count(route.retries_total),
  ]);
  const errors = status.routes.flatMap(({ name, last_error: error }) =>
    error === null ? [] : [`${name}: ${error.message} [${error.code}]`],
  );
  const sections = [
    `elgate ${build.version} (${build.sha}), ${status.phase}, pid ${status.pid}, up ${Math.round(status.uptime_s)} s, ` +
      `mode ${status.mode} on ${status.cores} cores\ndata ${status.data_dir}, config ${status.config ?? 'none'}`,
    table(['SHARD', 'CORE', 'BACKEND', 'BUSY'], shards),
    ...(status.io === null ? [] : [commits(status.io)]),
    table(['RING', 'SLOTS', 'ASIDE', 'PRODUCERS', 'CORRUPT'], rings),
    routes.length === 0
      ? 'no routes: add one with `elgate routes add`'
      : table(['ROUTE', 'SINK', 'STATE', 'DURABLE', 'DELIVERED', 'LAG', 'LOG', 'RETRIES'], routes),
    table(
      ['MEMORY', 'BYTES', 'WHY'],
      status.memory.map(({ what, bytes: size, why }) => [what, bytes(size), why]),
    ),
    ...(errors.length > 0 ? [`last errors:\n${errors.join('\n')}`] : []),
  ];
  return sections.join('\n\n');
}

function commits({ commit, commit_why, writes_in_flight, writes_in_flight_why }: IoStatus): string {
  const most = writes_in_flight === null ? '' : `, up to ${writes_in_flight} small ones at once`;
  return `commits by ${commit}${most}\n  ${commit_why}\n  ${writes_in_flight_why}`;
}
