// Hands groups of records to the daemon through the ring, keeps a window of them outstanding, and knows
// which have reached the wanted level. Outlives restarts of the daemon; gives up only when nothing
// moves for too long.

import { createHistogram, performance, type RecordableHistogram } from 'node:perf_hooks';
import { ElgateError, errorOfNumber } from '../errors.js';
import type { Level } from '../library/types.js';
import type { NativeClient } from '../native/binding.js';

/** Submissions under way; half of what the ring holds. */
const WINDOW_GROUPS = 512;
const WINDOW_BYTES = 16 * 1024 * 1024;
const RETRY_MS = 200;
const DRAIN_GROUPS = 512;
const GROUP_FIELDS = 6;
const RING_FULL = -5;
const LEVEL_DURABLE = 2;
/** How long the end of records that are accepted waits for the daemon's word that it takes none of them. */
const REFUSAL_MS = 250;

/** Refusals after which the record was certainly not taken, and may be later: back-pressure, log unavailable, route paused. */
const TRY_AGAIN = new Set([5, 12, 22]);

const NOTHING = new Uint8Array(0);

interface Group {
  sequence: number;
  packed: Uint8Array;
  bytes: number;
  count: number;
  /** When it was first meant to be sent. */
  startedMs: number;
}

export class PutSession {
  /** Records handed to this session, and how many of them reached the level. */
  sent = 0;
  acked = 0;
  readonly #latency: RecordableHistogram = createHistogram();
  readonly #completions = new Float64Array(DRAIN_GROUPS * GROUP_FIELDS);
  readonly #outstanding = new Map<number, Group>();
  readonly #route: number;
  #outstandingBytes = 0;
  #sequence = 0;
  /** Refused for now; sent again, in order, once nothing is under way. */
  #refused: Group[] = [];
  #undelivered: { lsn: number; group: Group }[] = [];
  #failure: ElgateError | undefined;
  #progressMs = performance.now();
  #wake: (() => void) | undefined;
  #rang = false;

  constructor(
    readonly client: NativeClient,
    readonly routeName: string,
    readonly level: Level,
    /** How long nothing may move while something is under way. */
    readonly timeoutMs: number,
  ) {
    this.#route = client.route(routeName);
    client.ref();
    client.onReady(() => {
      this.#ready();
      this.#rang = true;
      this.#wake?.();
    });
  }

  /** Hands over one group, once the window has room. Keeps `packed`. */
  async send(packed: Uint8Array, count: number): Promise<void> {
    this.sent += count;
    if (this.#failure !== undefined) throw this.#failure;
    while (this.#windowFull()) await this.#step();
    if (this.#idle()) this.#progressMs = performance.now();
    const group = { sequence: this.#sequence, packed, bytes: packed.length, count, startedMs: performance.now() };
    this.#sequence += 1;
    await this.#submit(group);
  }

  /** Waits until everything handed over has reached the level. */
  async finish(): Promise<void> {
    if (this.level === 'accepted') await this.#awaitRefusal();
    else while (!this.#idle()) await this.#step();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Latency from handing over to the level, in microseconds. */
  percentileUs(percent: number): number {
    return this.acked === 0 ? 0 : Math.round(this.#latency.percentile(percent) / 1000);
  }

  close(): void {
    this.client.close();
  }

  #idle(): boolean {
    return this.#outstanding.size === 0 && this.#refused.length === 0 && this.#undelivered.length === 0;
  }

  async #awaitRefusal(): Promise<void> {
    const end = performance.now() + REFUSAL_MS;
    while (!this.#idle() && this.#failure === undefined) {
      const left = end - performance.now();
      if (left <= 0) return;
      await this.#bell(left);
    }
  }

  #windowFull(): boolean {
    // What is accepted is in the ring, and nothing more to wait for.
    if (this.level === 'accepted') return false;
    return (
      this.#outstanding.size + this.#undelivered.length >= WINDOW_GROUPS ||
      this.#outstandingBytes >= WINDOW_BYTES ||
      this.#refused.length > 0
    );
  }

  /** Waits for something to happen, and deals with refusals. */
  async #step(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#refused.length > 0 && this.#outstanding.size === 0) {
      await this.#bell(RETRY_MS);
      this.#checkTimeout();
      const again = this.#refused.sort((a, b) => a.sequence - b.sequence);
      this.#refused = [];
      for (const group of again) await this.#submit(group);
      return;
    }
    await this.#bell(Math.max(0, this.#progressMs + this.timeoutMs - performance.now()));
    this.#checkTimeout();
  }

  #checkTimeout(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (performance.now() - this.#progressMs < this.timeoutMs) return;
    const why = this.client.daemonAlive() ? 'the daemon runs; see `elgate status`' : 'the daemon is not running';
    throw new ElgateError(
      'ERR_ELGATE_TIMEOUT',
      `route ${this.routeName}: nothing moved for ${this.timeoutMs / 1000} s (${why}); ${this.acked} of ${this.sent} ` +
        `records are known to be ${this.level}, the others may be carried out still`,
    );
  }

  async #submit(group: Group): Promise<void> {
    for (;;) {
      const operation = this.client.submit(this.#route, group.packed, group.bytes, group.count);
      if (operation > 0) {
        this.#outstanding.set(operation, group);
        this.#outstandingBytes += group.bytes;
        if (this.level === 'accepted') {
          this.#ack(group);
          // Never sent again: while its log is stuck, the ring takes far more than there is memory for.
          group.packed = NOTHING;
        }
        return;
      }
      if (operation !== RING_FULL) throw errorOfNumber(-operation, `route ${this.routeName}`);
      this.client.notifySpace(this.#route);
      await this.#bell(Math.max(0, this.#progressMs + this.timeoutMs - performance.now()));
      this.#checkTimeout();
    }
  }

  /** Resolves when the doorbell rings, or rang since the last call, or after `limitMs`. */
  async #bell(limitMs: number): Promise<void> {
    if (!this.#rang) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, limitMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#rang = false;
  }

  #ready(): void {
    const out = this.#completions;
    let groups: number;
    do {
      groups = this.client.drain(out);
      for (let at = 0; at < groups * GROUP_FIELDS; at += GROUP_FIELDS) {
        this.#complete(out[at] as number, out[at + 2] as number, out[at + 3] as number, out[at + 4] as number);
      }
    } while (groups === DRAIN_GROUPS);
    this.#settleDeliveries();
  }

  #complete(operation: number, firstLsn: number, status: number, level: number): void {
    const group = this.#outstanding.get(operation);
    if (group === undefined) return;
    this.#outstanding.delete(operation);
    this.#outstandingBytes -= group.bytes;
    if (TRY_AGAIN.has(status) && this.level !== 'accepted') {
      this.#refused.push(group);
      return;
    }
    this.#progressMs = performance.now();
    if (status !== 0) {
      this.#failure ??= errorOfNumber(status, `route ${this.routeName}`);
    } else if (this.level === 'accepted') {
      // Counted when it was handed over.
    } else if (level < LEVEL_DURABLE) {
      this.#failure ??= new ElgateError(
        'ERR_ELGATE_UNSUPPORTED',
        `route ${this.routeName} has flush = "none" or "manual": its records were accepted, and are not durable for certain; do not send them again; use --wait accepted`,
      );
    } else if (this.level === 'delivered' && level === LEVEL_DURABLE) {
      this.#awaitDelivery(firstLsn + group.count - 1, group);
    } else {
      this.#ack(group);
    }
  }

  #awaitDelivery(lsn: number, group: Group): void {
    this.#undelivered.push({ lsn, group });
    if (this.#undelivered.length === 1) this.client.watchDelivered(this.#route, lsn);
  }

  #settleDeliveries(): void {
    if (this.#undelivered.length === 0) return;
    const delivered = this.client.delivered(this.#route);
    let settled = 0;
    for (const { lsn, group } of this.#undelivered) {
      if (lsn > delivered) break;
      this.#ack(group);
      settled += 1;
    }
    if (settled === 0) return;
    this.#undelivered.splice(0, settled);
    this.#progressMs = performance.now();
    const next = this.#undelivered[0];
    if (next !== undefined) this.client.watchDelivered(this.#route, next.lsn);
  }

  #ack(group: Group): void {
    this.acked += group.count;
    this.#progressMs = performance.now();
    const ns = Math.max(1, Math.round((performance.now() - group.startedMs) * 1e6));
    for (let record = 0; record < group.count; record += 1) this.#latency.record(ns);
  }
}
