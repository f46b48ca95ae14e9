// The addon's stand-in: an engine, readers and a machine full of rings, in memory.

import type { RouteConfig } from '../../src/config/route-schema.js';
import { ERROR_TABLE } from '../../src/errors.generated.js';
import type { Binding, EngineStatus, NativeEngine, NativeReader, RouteStatus } from '../../src/native/binding.js';
import { FakeClient, type FakeRecord, FakeRing, nativeError } from './fake-ring.js';

class FakeEngine implements NativeEngine {
  readonly #paused = new Set<string>();
  #routes: Record<string, RouteConfig>;

  constructor(
    readonly ring: FakeRing,
    readonly statusOf: (route: string) => Partial<RouteStatus>,
    config: { routes: Record<string, RouteConfig> },
  ) {
    this.#routes = config.routes;
    this.#apply(config.routes);
  }

  #apply(routes: Record<string, RouteConfig>): void {
    this.#routes = routes;
    this.ring.routes = new Map(Object.entries(routes));
  }

  async applyRoutes(json: string): Promise<string> {
    const next = JSON.parse(json) as Record<string, RouteConfig>;
    const before = this.#routes;
    const same = (name: string) => JSON.stringify(before[name]) === JSON.stringify(next[name]);
    const kept = Object.keys(next).filter((name) => name in before);
    const changes = {
      added: Object.keys(next).filter((name) => !(name in before)),
      removed: Object.keys(before).filter((name) => !(name in next)),
      changed: kept.filter((name) => !same(name)),
      unchanged: kept.filter(same),
      failed: [],
    };
    this.#apply(next);
    return JSON.stringify(changes);
  }

  async pause(route: string): Promise<void> {
    this.#paused.add(route);
  }

  async resume(route: string): Promise<void> {
    this.#paused.delete(route);
  }

  async flush(): Promise<void> {}

  status(): string {
    const status: EngineStatus = {
      mode: 'single-thread',
      cores: 2,
      numa_nodes: 1,
      data_dir: this.ring.dataDir,
      uptime_s: 1.5,
      io: {
        commit: 'blocking',
        commit_why: 'auto: blocking 90 us',
        writes_in_flight: 2,
        writes_in_flight_why: 'each of so many at once: 1: 90 us, 2: 95 us',
        sqpoll: false,
        sqpoll_why: 'auto: too few cores',
      },
      shards: [
        {
          index: 0,
          pinned_core: null,
          backend: 'poll',
          arena_bytes: 0,
          zero_copy_bytes_total: 0,
          facts: {},
          busy_ratio: 0.25,
          turns_total: 1,
          sleeps_total: 1,
          rings: [
            {
              path: this.ring.path,
              used_slots: this.ring.used,
              slots: 1020,
              participants: this.ring.clients.size,
              submissions_total: this.ring.taken.length,
              corrupt_total: 0,
              set_aside: 0,
              aborted_total: 0,
              replaced_total: 0,
            },
          ],
        },
      ],
      memory: [{ what: 'ring', bytes: 4_194_304, why: 'what producers write into' }],
      routes: Object.entries(this.#routes).map(([name, { sink }]) => {
        const durable = this.ring.log(name).length;
        const delivered = this.ring.delivered.get(name) ?? 0;
        return {
          name,
          sink,
          state: this.#paused.has(name) ? 'paused' : 'running',
          first_lsn: 1,
          durable_lsn: durable,
          next_lsn: durable + 1,
          delivered_lsn: delivered,
          lag_records: durable - delivered,
          lost_records: 0,
          wal_bytes: 4096,
          wal_segments: 1,
          memory_bytes: 0,
          appended_records_total: durable,
          appended_bytes_total: 0,
          delivered_records_total: delivered,
          delivered_bytes_total: 0,
          retries_total: 0,
          refused_total: 0,
          batches_total: 3,
          written_bytes_total: 4096,
          write_ms: {
            buckets: [
              [0.1, 1],
              [1, 2],
            ],
            count: 3,
            sum: 500,
          },
          fsync_records: { buckets: [[1, 3]], count: 3, sum: 3 },
          disk_busy_seconds_total: 0.5,
          writes_in_flight: 0,
          backlog_bytes: 0,
          abandoned_segments_total: 0,
          last_error: null,
          damage: null,
          ...this.statusOf(name),
        };
      }),
    };
    return JSON.stringify(status);
  }

  ringPath(): string {
    return this.ring.path;
  }

  async close(): Promise<string> {
    if (process.env.FAKE_CLOSE === 'never') await new Promise(() => {});
    this.ring.held = false;
    this.ring.consume();
    this.ring.alive = false;
    const undelivered = Object.fromEntries(
      [...this.ring.logs].map(([route, log]) => [route, log.length - (this.ring.delivered.get(route) ?? 0)]),
    );
    return JSON.stringify({ drained: Object.values(undelivered).every((count) => count === 0), undelivered });
  }
}

class FakeReader implements NativeReader {
  #next: number;
  #committed = 0;
  closed = false;

  constructor(
    readonly log: FakeRecord[],
    from: string,
    readonly gaps: { from: number; to: number; reason: string }[],
    readonly cursor: { lsn: number } | undefined,
  ) {
    if (cursor !== undefined && cursor.lsn > 0) this.#next = cursor.lsn + 1;
    else if (from === 'start') this.#next = 1;
    else if (from === 'end') this.#next = log.length + 1;
    else if (from.startsWith('time:'))
      this.#next = (log.find(({ timeUs }) => timeUs >= Number(from.slice(5)))?.lsn ?? log.length + 1) as number;
    else this.#next = Number(from);
  }

  async read(
    maxBytes: number,
    waitMs: number,
  ): Promise<{ data: Uint8Array; index: Float64Array; gaps: string; caughtUp: boolean }> {
    const missing = new Set(
      this.gaps.flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i)),
    );
    const start = this.#next;
    const parts: Buffer[] = [];
    const index: number[] = [];
    let bytes = 0;
    while (this.#next <= this.log.length && bytes < maxBytes) {
      const record = this.log[this.#next - 1] as FakeRecord;
      this.#next += 1;
      if (missing.has(record.lsn)) continue;
      index.push(record.lsn, record.timeUs, bytes, record.data.length);
      parts.push(record.data);
      bytes += record.data.length;
    }
    if (index.length === 0 && waitMs > 0) await new Promise((resolve) => setImmediate(resolve));
    const gaps = this.gaps.filter(({ from }) => from >= start && from < this.#next);
    return {
      data: new Uint8Array(Buffer.concat(parts)),
      index: Float64Array.from(index),
      gaps: JSON.stringify(gaps),
      caughtUp: this.#next > this.log.length,
    };
  }

  async commit(lsn: number): Promise<void> {
    this.#committed = lsn;
    if (this.cursor !== undefined) this.cursor.lsn = lsn;
  }

  lost(): string | null {
    return null;
  }

  committed(): number {
    return this.#committed;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** A log that is well, unless its directory's name says otherwise. */
class FakeFsck {
  constructor(
    readonly directory: string,
    readonly mirror: string | null,
    readonly repair: boolean,
  ) {}

  async run(): Promise<string> {
    const is = (word: string) => this.directory.includes(word);
    if (is('busy')) throw nativeError('ERR_ELGATE_IN_USE', `${this.directory} is being written by process 7`);
    const finding = (outcome: string, kind: string) => ({
      kind,
      outcome,
      path: `${this.directory}/a-20260101-001.wal`,
      from_byte: 4096,
      to_byte: 8192,
      first_lsn: 3,
      last_lsn: 4,
      what: 'it was struck',
      advice: 'see to it',
      copy: null,
    });
    const flipped = is('flipped') ? [finding(this.repair ? 'repaired' : 'repairable', 'flipped-bits')] : [];
    const lost = is('lost') ? [finding('left', 'gap')] : [];
    const of = (outcome: string) => flipped.filter((it) => it.outcome === outcome).length;
    return JSON.stringify({
      route: 'a',
      live: is('live'),
      segments: 1,
      batches: 2,
      records: 6,
      first_lsn: 1,
      last_lsn: 6,
      bytes: 8192,
      repaired: of('repaired'),
      repairable: of('repairable'),
      left: lost.length,
      lost_records: lost.length * 2,
      findings: [...flipped, ...lost],
      findings_omitted: 0,
    });
  }

  progress(): number[] {
    return [4096, 8192];
  }
}

/** A machine's worth of fakes. */
export class FakeMachine {
  readonly rings = new Map<string, FakeRing>();
  readonly gaps: { from: number; to: number; reason: string }[] = [];
  readonly cursors = new Map<string, { lsn: number }>();
  readonly configs: string[] = [];
  openFailure: Error | undefined;
  /** What of a route's status is otherwise. */
  statusOf: (route: string) => Partial<RouteStatus> = () => ({});

  /** A daemon's ring. */
  serve(path: string, dataDir = '/data'): FakeRing {
    const ring = new FakeRing(path, dataDir);
    this.rings.set(path, ring);
    return ring;
  }

  /** The only ring there is. */
  get ring(): FakeRing {
    const [ring] = this.rings.values();
    if (ring === undefined) throw new Error('no ring is served');
    return ring;
  }

  get binding(): Binding {
    return {
      NativeEngine: {
        open: async (json) => {
          if (this.openFailure !== undefined) throw this.openFailure;
          this.configs.push(json);
          const config = JSON.parse(json);
          const ring = this.rings.get(config.ring.path) ?? this.serve(config.ring.path, config.data_dir);
          ring.alive = true;
          return new FakeEngine(ring, (route) => this.statusOf(route), config);
        },
      },
      NativeClient: {
        connect: async (path) => {
          const ring = this.rings.get(path);
          if (ring === undefined)
            throw nativeError('ERR_ELGATE_DAEMON_UNAVAILABLE', `no daemon serves ${path}: start it`);
          return new FakeClient(ring);
        },
      },
      NativeReader: {
        open: async (directory, from, reader) => {
          const ring = [...this.rings.values()].find((candidate) => directory.startsWith(candidate.dataDir));
          const route = directory.split('/').pop() as string;
          let cursor: { lsn: number } | undefined;
          if (reader !== null) {
            cursor = this.cursors.get(reader) ?? { lsn: 0 };
            this.cursors.set(reader, cursor);
          }
          return new FakeReader(ring?.log(route) ?? [], from, this.gaps, cursor);
        },
      },
      NativeFsck: FakeFsck,
      describeLog: () =>
        JSON.stringify({
          segments: [
            { name: 'a-20260101-001.wal', sequence: 1, first_lsn: 1, last_lsn: 3, bytes: 8192, state: 'active' },
          ],
          first_lsn: 1,
          durable_lsn: 3,
          visible_lsn: 3,
          delivered_lsn: 2,
          next_lsn: 4,
          cursors: [{ name: 'sink', lsn: 2 }],
          writer: { pid: 1, alive: true },
        }),
      doctor: () => JSON.stringify({ findings: [{ id: 'io_uring', level: 'ok', what: 'works', advice: '' }] }),
      errorTable: () => JSON.stringify(ERROR_TABLE),
      buildInfo: () =>
        JSON.stringify({ version: '0.0.0', sha: 'fake', target: 'fake', profile: 'test', failpoints: false }),
    };
  }
}
