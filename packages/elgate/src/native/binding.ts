// What the native addon exposes, as it exposes it: numbers, byte arrays and JSON text. Everything
// above this folder speaks in the parsed shapes at the end of this file.

/** The engine, in this process. */
export interface NativeEngine {
  /** Hot reload, all or nothing. Answers JSON `{ added, removed, changed, unchanged }`. */
  applyRoutes(routesJson: string): Promise<string>;
  pause(route: string): Promise<void>;
  resume(route: string): Promise<void>;
  flush(route: string): Promise<void>;
  /** JSON, see `EngineStatus`. */
  status(): string;
  ringPath(): string;
  /** Drains for at most `drainMs`, then stops. Answers JSON `{ drained, undelivered: { route: count } }`. */
  close(drainMs: number): Promise<string>;
}

/** A producer on a ring. Never blocks. */
export interface NativeClient {
  /** The handle of a route, known to this client alone. Throws on a bad name. */
  route(name: string): number;
  /**
   * Puts `count` records, packed as `{ u32le length, bytes }*`, into the ring as one submission.
   * Answers the operation id of the first (1 or more), or the negative number of an error code.
   */
  submit(route: number, packed: Uint8Array, packedBytes: number, count: number): number;
  /** Puts one record into the ring. Answers as `submit` does. */
  post(route: number, data: Uint8Array | string): number;
  /**
   * Fills `out` with groups of six: operation id, record count, first LSN, status (0 or an error
   * code), level, the route's handle. Answers the number of groups; fewer than fit means there are no more.
   */
  drain(out: Float64Array): number;
  /** The doorbell: called at most once until the next `drain`. */
  onReady(callback: () => void): void;
  /** Lets the doorbell keep the process alive, or no longer. */
  ref(): void;
  unref(): void;
  /** Rings the doorbell once `delivered(route)` has reached `lsn`. */
  watchDelivered(route: number, lsn: number): void;
  delivered(route: number): number;
  daemonAlive(): boolean;
  dataDir(): string;
  /** Submissions whose completion has not been drained. */
  outstanding(): number;
  /** Whether a submission to the route would find room now: not in a full ring, nor while its log is parked. */
  spaceAvailable(route: number): boolean;
  /** Rings the doorbell once it would. */
  notifySpace(route: number): void;
  close(): void;
}

/** What one read of a log answers. */
export interface NativeReadResult {
  data: Uint8Array;
  /** Groups of four: LSN, time in microseconds, offset and length in `data`. */
  index: Float64Array;
  /** JSON `[{ from, to, reason }]`: records that are damaged or gone. */
  gaps: string;
  /** Nothing more is durable at this moment. */
  caughtUp: boolean;
}

/** Tails a log, in any process. */
export interface NativeReader {
  read(maxBytes: number, waitMs: number): Promise<NativeReadResult>;
  commit(lsn: number): Promise<void>;
  committed(): number;
  /** What became of this reader's saved position, if it could not be read: then it starts over. */
  lost(): string | null;
  /** A read under way ends first. */
  close(): Promise<void>;
}

/** One check of a log. */
export interface NativeFsck {
  /** JSON, see `FsckReport`. */
  run(): Promise<string>;
  /** Bytes looked at so far, and bytes there are. */
  progress(): number[];
}

/** The addon. */
export interface Binding {
  NativeEngine: { open(configJson: string): Promise<NativeEngine> };
  NativeClient: { connect(ringPath: string, waitMs: number): Promise<NativeClient> };
  NativeReader: { open(directory: string, from: string, reader: string | null): Promise<NativeReader> };
  NativeFsck: new (directory: string, mirror: string | null, repair: boolean) => NativeFsck;
  describeLog(directory: string): string;
  doctor(configJson: string): string;
  errorTable(): string;
  buildInfo(): string;
}

/** `NativeEngine.status()`, parsed. */
export interface EngineStatus {
  mode: string;
  cores: number;
  numa_nodes: number;
  data_dir: string;
  uptime_s: number;
  io: IoStatus | null;
  shards: ShardStatus[];
  memory: { what: string; bytes: number; why: string }[];
  routes: RouteStatus[];
}

/** How the shards' I/O was set up, and what that was decided by. */
export interface IoStatus {
  commit: string;
  commit_why: string;
  writes_in_flight: number | null;
  writes_in_flight_why: string;
  sqpoll: boolean;
  sqpoll_why: string;
}

export interface ShardStatus {
  index: number;
  pinned_core: number | null;
  backend: string;
  facts: Record<string, string>;
  arena_bytes: number;
  zero_copy_bytes_total: number;
  busy_ratio: number;
  turns_total: number;
  sleeps_total: number;
  rings: RingStatus[];
}

export interface RingStatus {
  path: string;
  used_slots: number;
  slots: number;
  set_aside: number;
  participants: number;
  submissions_total: number;
  corrupt_total: number;
  aborted_total: number;
  replaced_total: number;
  trouble?: string;
}

/**
 * `stopped`: the attempts are used up, `resume` it. `parked`: the log cannot be written. `failed`: the log or the sink
 * could not be opened; it is tried again.
 */
export type RouteState = 'running' | 'paused' | 'retrying' | 'stopped' | 'parked' | 'failed';

/** A histogram; the counts are cumulative. */
export interface Buckets {
  buckets: [upTo: number, count: number][];
  count: number;
  sum: number;
}

export interface RouteStatus {
  name: string;
  sink: string;
  state: RouteState;
  first_lsn: number;
  durable_lsn: number;
  next_lsn: number;
  delivered_lsn: number;
  lag_records: number;
  lost_records: number;
  wal_bytes: number;
  wal_segments: number;
  memory_bytes: number;
  appended_records_total: number;
  appended_bytes_total: number;
  delivered_records_total: number;
  delivered_bytes_total: number;
  retries_total: number;
  refused_total: number;
  batches_total: number;
  written_bytes_total: number;
  /** How long writes took, sync included where a write is its own. */
  write_ms: Buckets;
  /** How many records became stable at once. */
  fsync_records: Buckets;
  /** Time in which the device had something to do for this route. */
  disk_busy_seconds_total: number;
  writes_in_flight: number;
  /** Taken, and not yet handed to the device. */
  backlog_bytes: number;
  /** Segments left after a failed write or sync. */
  abandoned_segments_total: number;
  /** The second copy of the log, where the route has one. */
  mirror?: { trouble: string | null; segments_behind: number };
  last_error: RouteError | null;
  /** The last damage found in the log, whatever went wrong since. */
  damage: RouteError | null;
}

export interface RouteError {
  at_us: number;
  code: string;
  message: string;
}

/** `describeLog()`, parsed. */
export interface LogDescription {
  segments: {
    name: string;
    sequence: number;
    first_lsn: number | null;
    last_lsn: number | null;
    bytes: number;
    state: string;
  }[];
  /** Numbers are null where nothing that can be read says them. */
  first_lsn: number | null;
  durable_lsn: number | null;
  visible_lsn: number | null;
  delivered_lsn: number | null;
  next_lsn: number | null;
  cursors: { name: string; lsn: number }[];
  writer: { pid: number; alive: boolean };
}

/** `NativeFsck.run()`, parsed. */
export interface FsckReport {
  route: string | null;
  /** A writer had the log open: what was not durable yet was left out. */
  live: boolean;
  segments: number;
  batches: number;
  records: number;
  first_lsn: number | null;
  last_lsn: number | null;
  bytes: number;
  repaired: number;
  repairable: number;
  left: number;
  lost_records: number;
  findings: FsckFinding[];
  findings_omitted: number;
}

export interface FsckFinding {
  kind: string;
  outcome: 'note' | 'repairable' | 'repaired' | 'left';
  path: string;
  from_byte: number | null;
  to_byte: number | null;
  first_lsn: number | null;
  last_lsn: number | null;
  what: string;
  /** Empty if there is nothing to do. */
  advice: string;
  /** Where the bytes are kept that were there before. */
  copy: string | null;
}

/** `doctor()`, parsed. */
export interface DoctorReport {
  findings: { id: string; level: 'ok' | 'warn' | 'fail'; what: string; advice: string }[];
}

/** `buildInfo()`, parsed. */
export interface BuildInfo {
  version: string;
  sha: string;
  target: string;
  profile: string;
  /** Built with kill sites, for crash tests. */
  failpoints: boolean;
}

/** `NativeEngine.close()`, parsed. */
export interface DrainOutcome {
  drained: boolean;
  undelivered: Record<string, number>;
}

/** `NativeEngine.applyRoutes()`, parsed. */
export interface RouteChanges {
  added: string[];
  removed: string[];
  changed: string[];
  unchanged: string[];
  /** What did not work. An added route is there all the same, and tried again; another one goes on as it was. */
  failed: RouteFailure[];
}

export interface RouteFailure {
  name: string;
  code: string;
  message: string;
}
