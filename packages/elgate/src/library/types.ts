// The shapes that users of the library see.

import type { Backend, Mode } from '../config/schema.js';

/** How far an operation has come. Each level includes the ones before it. */
export type Level = 'accepted' | 'durable' | 'delivered';

/** One record's bytes. Text is sent as UTF-8. At most 1,000,000 bytes. */
export type Bytes = Uint8Array | string;

/** What is known about one record. */
export interface Receipt {
  route: string;
  /** The record's number in its route's log: 1, 2, 3, ... `0` at level `accepted`, where it has none yet. */
  lsn: number;
  /** The level that was reached: no more than `accepted` on a route with `flush = "none"` or `"manual"`. */
  level: Level;
}

/** What is known about records that were appended together. */
export interface GroupReceipt extends Receipt {
  /** Number of the first record; `lsn` is that of the last. */
  firstLsn: number;
  count: number;
}

export interface AppendOptions {
  /** The level to wait for. Default `durable`. */
  wait?: Level;
  /** Stops the waiting, not the operation: the record may still be carried out. */
  signal?: AbortSignal;
}

/** A route of an embedded engine; the keys of `elgate.toml` in camel case. */
export interface RouteOptions {
  sink: 'file' | 'http' | 'none';
  /** `file`: the file to append to, below `filesRoot`. */
  path?: string;
  /** `file`: what follows each record. Default `newline`. */
  framing?: 'newline' | 'none';
  /** `http`: where to POST each record. */
  url?: string;
  contentType?: string;
  headers?: Record<string, string>;
  /** `route`: one after the other (the default). `none`: up to `concurrency` at a time, in any order. */
  order?: 'route' | 'none';
  concurrency?: number;
  /** Pauses between attempts, and how many attempts; 0: for ever (the default). */
  retry?: { initialMs?: number; maxMs?: number; maxAttempts?: number };
  timeoutMs?: number;
  /** When records become durable. `auto` (the default): at once; `manual`: by `route.flush()`; `none`: never for certain. */
  flush?: 'auto' | 'manual' | 'none';
  segmentBytes?: number;
  /** What is kept of the log once every reader has passed it; 0: no limit. */
  retain?: { maxBytes?: number; maxAgeS?: number };
  paused?: boolean;
}

export interface OpenOptions {
  /** A configuration file to start from. None is looked for. */
  config?: string;
  /** Where logs live. One engine at a time may own it. Default `elgate-data`. */
  dataDir?: string;
  routes?: Record<string, RouteOptions>;
  /** File sinks write below this directory and nowhere else. Default: the working directory. */
  filesRoot?: string;
  /** Path of the ring, for other processes to connect to. Default: one of its own per data directory. */
  ring?: string;
  /** `test-stub` keeps everything in memory, for tests. */
  mode?: Mode;
  backend?: Backend;
  shards?: number;
  pin?: boolean;
}

export interface ConnectOptions {
  /** A configuration file that says where ring and control API are. */
  config?: string;
  ring?: string;
  /** The control API, `host:port`; used by `fetch` to learn the routes' URLs. */
  admin?: string;
  /** How long to wait for the daemon to appear, in milliseconds. Default 0: it must be there. */
  waitMs?: number;
}

export interface CloseOptions {
  /** Embedded: how long to wait for what is durable to be delivered, in milliseconds. Default 5000. */
  drainMs?: number;
}

export interface TailOptions {
  /** `start`, `end` (the default), a record's number, or a time. A reader that has committed goes on from there. */
  from?: 'start' | 'end' | number | Date;
  /** A name under which `commit` remembers how far this reader has come. */
  reader?: string;
  /** Wait for records to come (the default), or end after the last one. */
  follow?: boolean;
  /** Ends the iteration. */
  signal?: AbortSignal;
  /** Told about records that are damaged or gone; without it such a gap ends the iteration with an error. */
  onGap?: (gap: Gap) => void;
}

/** Records that cannot be read, `from` and `to` included. */
export interface Gap {
  from: number;
  to: number;
  reason: string;
}

/** One record of a log. */
export interface LogRecord {
  readonly lsn: number;
  /** When Elgate took it. */
  readonly time: Date;
  /** A view of memory that belongs to this record and its neighbours. */
  readonly data: Uint8Array;
  /** The data as UTF-8 text. */
  text(): string;
  /** Remembers, durably, that this reader has dealt with this record and all before it. Needs `reader`, and the loop to go on. */
  commit(): Promise<void>;
}
