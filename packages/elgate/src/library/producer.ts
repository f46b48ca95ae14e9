// Everything between the routes of one gate and its client of the ring: operations under way, the
// doorbell that brings their outcomes in batches, and back-pressure.

import { ElgateError, errorOfNumber } from '../errors.js';
import type { NativeClient } from '../native/binding.js';
import { Lane } from './lane.js';
import { Ticket, type WaitCount } from './ticket.js';
import type { Level } from './types.js';

/** Completions fetched from the addon in one call. */
const DRAIN_GROUPS = 1024;
const GROUP_FIELDS = 6;

/** Packed bytes that may wait for space in the ring; beyond that, appends are refused. */
const QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** Of these, what one route may take, so that one whose log is parked leaves room for the others. */
export const ROUTE_QUEUE_BYTES_MAX = QUEUE_BYTES_MAX / 4;

const LEVELS: readonly Level[] = ['accepted', 'accepted', 'durable', 'delivered'];

/** Submissions that are in the ring, by the operation id of their first record. */
interface Submission {
  readonly lane: Lane;
  readonly tickets: Ticket[];
}

/** Those that may hold staged records when the process exits. */
const live = new Set<Producer>();
process.on('exit', () => {
  for (const producer of live) producer.handOver();
});

export class Producer implements WaitCount {
  readonly #lanes = new Map<string, Lane>();
  readonly #lanesByHandle = new Map<number, Lane>();
  readonly #submissions = new Map<number, Submission>();
  readonly #stalled = new Set<Lane>();
  readonly #completions = new Float64Array(DRAIN_GROUPS * GROUP_FIELDS);
  #spaceWaiters: { lane: Lane; ticket: Ticket }[] = [];
  #idleWaiters: (() => void)[] = [];
  #waits = 0;
  #referenced = false;
  #queuedBytes = 0;
  /** The first refusal, per lane, of a record that nobody waited for. */
  readonly #failures = new Map<Lane, ElgateError>();
  #refusing = false;
  #closed = false;

  constructor(readonly client: NativeClient) {
    client.unref();
    client.onReady(() => this.#ready());
    live.add(this);
  }

  /** The lane of a route; throws `ERR_ELGATE_ROUTE_NAME_INVALID` or `ERR_ELGATE_CLOSED`. */
  lane(route: string): Lane {
    this.assertOpen(`route ${route}`);
    let lane = this.#lanes.get(route);
    if (lane === undefined) {
      lane = new Lane(this, route);
      this.#lanes.set(route, lane);
      this.#lanesByHandle.set(lane.handle, lane);
    }
    return lane;
  }

  assertOpen(what: string): void {
    if (this.#refusing) throw new ElgateError('ERR_ELGATE_CLOSED', `${what}: this gate was closed; open a new one`);
  }

  /** From here on nothing new is taken. */
  refuse(): void {
    this.#refusing = true;
  }

  /** Resolves when `lane` may post again. Rejects if a record posted there was refused since the last time. */
  async drained(lane: Lane): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const ticket = new Ticket(0, 'accepted', () => resolve(), reject, this);
      this.#spaceWaiters.push({ lane, ticket });
      this.#settleSpace();
    });
    this.reportFailure(lane);
  }

  /** Throws, once, the first refusal of a record that nobody waited for: of `lane`, or of any. */
  reportFailure(lane?: Lane): void {
    for (const [of, failure] of this.#failures) {
      if (lane !== undefined && of !== lane) continue;
      this.#failures.delete(of);
      throw failure;
    }
  }

  #failed(lane: Lane, error: ElgateError): void {
    if (!this.#failures.has(lane)) this.#failures.set(lane, error);
  }

  /** Hands over everything staged, at once. */
  handOver(): void {
    for (const lane of this.#lanes.values()) lane.seal();
  }

  /** Resolves when nobody waits for anything any more, or after `limitMs`. */
  async idle(limitMs: number): Promise<void> {
    this.handOver();
    if (this.#waits === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#idleWaiters.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Answers everybody who still waits, and lets go of the ring. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#refusing = true;
    live.delete(this);
    const closed = 'the gate was closed';
    const never = new ElgateError('ERR_ELGATE_CLOSED', `${closed} before this record was handed over; open a new one`);
    const unknown = new ElgateError(
      'ERR_ELGATE_TIMEOUT',
      `${closed} before the outcome was known: the record is in the ring or the log and may still be carried out`,
    );
    for (const lane of this.#lanes.values()) {
      lane.abandon(never);
      lane.abandonDeliveries(unknown);
    }
    for (const { tickets } of this.#submissions.values()) {
      for (const ticket of tickets) ticket.failed(unknown);
    }
    this.#submissions.clear();
    for (const { ticket } of this.#spaceWaiters) ticket.failed(never);
    this.#spaceWaiters = [];
    this.client.close();
  }

  // What lanes tell.

  submitted(operation: number, lane: Lane, tickets: Ticket[]): void {
    this.#submissions.set(operation, { lane, tickets });
  }

  queued(lane: Lane, bytes: number): void {
    this.#queuedBytes += bytes;
    this.#stalled.add(lane);
    this.client.notifySpace(lane.handle);
  }

  unqueued(bytes: number): void {
    this.#queuedBytes -= bytes;
  }

  /** Why no more of `lane` may queue for the ring, if so. */
  queueRefusal(lane: Lane): ElgateError | undefined {
    const full = this.#queuedBytes >= QUEUE_BYTES_MAX;
    if (!full && lane.queuedBytes < ROUTE_QUEUE_BYTES_MAX) return undefined;
    // What the others wait with is no reason to refuse what the ring takes at once.
    if (lane.queuedBytes === 0 && this.client.spaceAvailable(lane.handle)) return undefined;
    const waiting = full ? this.#queuedBytes : lane.queuedBytes;
    return new ElgateError(
      'ERR_ELGATE_BACKPRESSURE',
      `route ${lane.route}: the ring has no room and ${waiting} bytes wait for it already: ` +
        'await earlier appends, or drained()',
    );
  }

  waitBegan(): void {
    this.#waits += 1;
    if (this.#referenced || this.#closed) return;
    this.#referenced = true;
    this.client.ref();
  }

  waitEnded(): void {
    this.#waits -= 1;
    if (this.#waits > 0) return;
    // Once per batch, not once per record: whoever was answered may wait again at once.
    setImmediate(() => this.#settleIdle());
  }

  #settleIdle(): void {
    if (this.#waits > 0) return;
    if (this.#referenced && !this.#closed) this.client.unref();
    this.#referenced = false;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const resolve of waiters) resolve();
  }

  // The doorbell.

  #ready(): void {
    if (this.#closed) return;
    this.#drainCompletions();
    for (const lane of this.#lanes.values()) lane.settleDeliveries();
    this.#pump();
    this.#settleSpace();
  }

  #drainCompletions(): void {
    const out = this.#completions;
    let groups: number;
    do {
      groups = this.client.drain(out);
      for (let at = 0; at < groups * GROUP_FIELDS; at += GROUP_FIELDS) {
        const field = (index: number) => out[at + index] as number;
        this.#complete(field(0), field(2), field(3), field(4), field(5));
      }
    } while (groups === DRAIN_GROUPS);
  }

  #complete(operation: number, firstLsn: number, status: number, level: number, route: number): void {
    const submission = this.#submissions.get(operation);
    if (submission === undefined) {
      const posted = this.#lanesByHandle.get(route);
      if (status === 0 || posted === undefined) return;
      this.#failed(posted, errorOfNumber(status, `a record posted to route ${posted.route} was refused`));
      return;
    }
    this.#submissions.delete(operation);
    const { lane, tickets } = submission;
    if (status !== 0) {
      const error = errorOfNumber(status, `appending to route ${lane.route}`);
      for (const ticket of tickets) {
        if (ticket.wait === 'accepted') this.#failed(lane, error);
        else ticket.failed(error);
      }
      return;
    }
    const reached = LEVELS[level] ?? 'accepted';
    for (const ticket of tickets) {
      if (!ticket.open) continue;
      const first = firstLsn + ticket.index;
      if (ticket.wait === 'delivered' && reached === 'durable') {
        lane.awaitDelivery(first, first + ticket.count - 1, ticket);
      } else {
        ticket.reached(first, reached);
      }
    }
  }

  /** A route that finds no room keeps none of the others waiting. */
  #pump(): void {
    for (const lane of this.#stalled) {
      if (lane.pump()) this.#stalled.delete(lane);
      else this.client.notifySpace(lane.handle);
    }
  }

  #settleSpace(): void {
    const waiters = this.#spaceWaiters;
    this.#spaceWaiters = [];
    for (const waiter of waiters) {
      const { lane, ticket } = waiter;
      if (!lane.stalled && this.client.spaceAvailable(lane.handle)) {
        ticket.reached(0, 'accepted');
      } else {
        this.#spaceWaiters.push(waiter);
        this.client.notifySpace(lane.handle);
      }
    }
  }
}
