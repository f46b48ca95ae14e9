// The engine's status as Prometheus metrics, made anew at every scrape. Names carry `elgate_` and
// base units.

import { type Counter, type Histogram, Registry } from 'prom-client';
import type { Buckets, BuildInfo, EngineStatus, RingStatus, RouteStatus } from '../native/binding.js';
import { binding } from '../native/load.js';
import { residentBytes } from './resident.js';

type Labels = Record<string, string | number>;
interface Sample {
  labels: Labels;
  value: number;
  /** Where it differs from the metric's. */
  metricName?: string;
}

interface Definition {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  collect(status: EngineStatus): Sample[];
}

const STATES = ['running', 'paused', 'retrying', 'stopped', 'parked', 'failed'] as const;

const one = (value: number, labels: Labels = {}): Sample[] => [{ labels, value }];

function perRoute(
  type: Definition['type'],
  name: string,
  help: string,
  value: (route: RouteStatus) => number,
): Definition {
  const collect = (status: EngineStatus) =>
    status.routes.map((route) => ({ labels: { route: route.name }, value: value(route) }));
  return { type, name, help, collect };
}

function perRing(
  type: Definition['type'],
  name: string,
  help: string,
  value: (ring: RingStatus) => number,
): Definition {
  const collect = (status: EngineStatus) =>
    status.shards.flatMap((shard) => shard.rings.map((ring) => ({ labels: { ring: ring.path }, value: value(ring) })));
  return { type, name, help, collect };
}

function histogram(name: string, help: string, values: (route: RouteStatus) => Buckets): Definition {
  const collect = (status: EngineStatus) =>
    status.routes.flatMap((status) => {
      const route = status.name;
      const { buckets, count, sum } = values(status);
      return [
        ...buckets.map(([le, value]) => ({ labels: { le, route }, value, metricName: `${name}_bucket` })),
        { labels: { le: '+Inf', route }, value: count, metricName: `${name}_bucket` },
        { labels: { route }, value: sum, metricName: `${name}_sum` },
        { labels: { route }, value: count, metricName: `${name}_count` },
      ];
    });
  return { type: 'histogram', name, help, collect };
}

/** Of routes with a second copy of their log. */
function mirrored(
  name: string,
  help: string,
  value: (mirror: NonNullable<RouteStatus['mirror']>) => number,
): Definition {
  const collect = (status: EngineStatus) =>
    status.routes.flatMap(({ name: route, mirror }) =>
      mirror === undefined ? [] : [{ labels: { route }, value: value(mirror) }],
    );
  return { type: 'gauge', name, help, collect };
}

const DEFINITIONS: readonly Definition[] = [
  {
    type: 'gauge',
    name: 'elgate_build_info',
    help: 'The version that runs; always 1.',
    collect: ({ mode }) => {
      const { version, sha } = JSON.parse(binding().buildInfo()) as BuildInfo;
      return one(1, { version, sha, mode });
    },
  },
  {
    type: 'gauge',
    name: 'elgate_uptime_seconds',
    help: 'Time since the engine started.',
    collect: (status) => one(status.uptime_s),
  },
  {
    type: 'counter',
    name: 'elgate_process_cpu_seconds_total',
    help: 'Processor time used by the daemon, all threads.',
    collect: () => one((process.cpuUsage().user + process.cpuUsage().system) / 1e6),
  },
  {
    type: 'gauge',
    name: 'elgate_process_resident_memory_bytes',
    help: 'Memory of the daemon that is in use.',
    collect: () => {
      const bytes = residentBytes();
      return bytes === undefined ? [] : one(bytes);
    },
  },
  {
    type: 'gauge',
    name: 'elgate_memory_bytes',
    help: "The engine's own memory, by purpose.",
    collect: ({ memory }) => memory.map(({ what, bytes }) => ({ labels: { what }, value: bytes })),
  },
  {
    type: 'gauge',
    name: 'elgate_shard_busy_ratio',
    help: 'Share of the time that the shard worked.',
    collect: ({ shards }) => shards.map(({ index, busy_ratio }) => ({ labels: { shard: index }, value: busy_ratio })),
  },
  perRing('gauge', 'elgate_ring_slots', 'Slots of the ring.', (ring) => ring.slots),
  perRing('gauge', 'elgate_ring_used_slots', 'Slots that are claimed or not yet released.', (ring) => ring.used_slots),
  perRing(
    'gauge',
    'elgate_ring_set_aside',
    'Submissions that wait for a log that cannot be written, out of the way of others.',
    (ring) => ring.set_aside,
  ),
  perRing('gauge', 'elgate_ring_participants', 'Producers that are attached.', (ring) => ring.participants),
  perRing('counter', 'elgate_ring_submissions_total', 'Submissions taken.', (ring) => ring.submissions_total),
  perRing('counter', 'elgate_ring_corrupt_total', 'Submissions that did not validate.', (ring) => ring.corrupt_total),
  perRing(
    'counter',
    'elgate_ring_aborted_total',
    'Claims taken back from dead producers.',
    (ring) => ring.aborted_total,
  ),
  perRing('counter', 'elgate_ring_replaced_total', 'Times the ring was replaced.', (ring) => ring.replaced_total),
  {
    type: 'gauge',
    name: 'elgate_route_state',
    help: '1 for the state that the route is in.',
    collect: ({ routes }) =>
      routes.flatMap(({ name: route, state }) =>
        STATES.map((candidate) => ({ labels: { route, state: candidate }, value: candidate === state ? 1 : 0 })),
      ),
  },
  perRoute('gauge', 'elgate_durable_lsn', 'Number of the last durable record.', (route) => route.durable_lsn),
  perRoute('gauge', 'elgate_delivered_lsn', 'Number of the last delivered record.', (route) => route.delivered_lsn),
  perRoute('gauge', 'elgate_lag_records', 'Durable records that are not delivered.', (route) => route.lag_records),
  perRoute('gauge', 'elgate_lost_records', 'Records that are damaged or gone.', (route) => route.lost_records),
  perRoute('gauge', 'elgate_wal_bytes', 'Size of the log on disk.', (route) => route.wal_bytes),
  perRoute('counter', 'elgate_appended_records_total', 'Records appended.', (route) => route.appended_records_total),
  perRoute('counter', 'elgate_appended_bytes_total', 'Payload appended.', (route) => route.appended_bytes_total),
  perRoute('counter', 'elgate_delivered_records_total', 'Records delivered.', (route) => route.delivered_records_total),
  perRoute('counter', 'elgate_delivered_bytes_total', 'Payload delivered.', (route) => route.delivered_bytes_total),
  perRoute('counter', 'elgate_written_bytes_total', 'Bytes written to the log.', (route) => route.written_bytes_total),
  perRoute('counter', 'elgate_retries_total', 'Deliveries tried again.', (route) => route.retries_total),
  perRoute('counter', 'elgate_refused_total', 'Records that were not taken.', (route) => route.refused_total),
  perRoute('counter', 'elgate_batches_total', 'Group commits.', (route) => route.batches_total),
  histogram(
    'elgate_disk_write_latency_ms',
    'Milliseconds from handing a group commit to the device until it had it, sync included where a write is its own.',
    (route) => route.write_ms,
  ),
  histogram('elgate_fsync_batch_size', 'Records that one sync made stable.', (route) => route.fsync_records),
  perRoute(
    'counter',
    'elgate_disk_busy_seconds_total',
    'Time with a write or sync under way. Where its rate nears 1, the device is the bottleneck.',
    (route) => route.disk_busy_seconds_total,
  ),
  perRoute('gauge', 'elgate_disk_writes_in_flight', 'Writes under way.', (route) => route.writes_in_flight),
  perRoute(
    'gauge',
    'elgate_disk_backlog_bytes',
    'Bytes taken and not yet handed to the device.',
    (route) => route.backlog_bytes,
  ),
  {
    type: 'counter',
    name: 'elgate_disk_zero_copy_bytes_total',
    help: 'Bytes written past the page cache from buffers registered with the kernel.',
    collect: ({ shards }) =>
      shards.map(({ index, zero_copy_bytes_total }) => ({ labels: { shard: index }, value: zero_copy_bytes_total })),
  },
  mirrored(
    'elgate_mirror_in_sync',
    '1 while what is acknowledged is in the second copy of the log, too.',
    ({ trouble, segments_behind }) => (trouble === null && segments_behind === 0 ? 1 : 0),
  ),
  mirrored(
    'elgate_mirror_segments_behind',
    'Segments that the second copy may lack something of.',
    ({ segments_behind }) => segments_behind,
  ),
  perRoute(
    'counter',
    'elgate_abandoned_segments_total',
    'Segments left after a failed write or sync.',
    (route) => route.abandoned_segments_total,
  ),
];

export class Metrics {
  readonly #registry = new Registry();
  #status: EngineStatus | undefined;

  constructor() {
    for (const definition of DEFINITIONS) {
      const { name, help, type } = definition;
      const get = async () => ({
        name,
        help,
        type,
        aggregator: 'sum' as const,
        values: this.#status === undefined ? [] : definition.collect(this.#status),
      });
      // The registry asks a metric for no more than its name and values; the totals are the engine's,
      // so prom-client's own counting classes would only be in the way.
      this.#registry.registerMetric({ name, help, type, get } as unknown as Counter | Histogram);
    }
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The text of one scrape. */
  async render(status: EngineStatus): Promise<string> {
    this.#status = status;
    return this.#registry.metrics();
  }
}
