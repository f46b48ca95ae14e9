// What a program holds of one route.

import { guardAsync } from '../errors.js';
import type { Lane } from './lane.js';
import { assertBytes } from './packer.js';
import type { Producer } from './producer.js';
import { Ticket } from './ticket.js';
import type { AppendOptions, Bytes, GroupReceipt, Level, Receipt } from './types.js';

/** A route to append to. Made by `gate.route(name)`; costs nothing to keep. */
export class Route {
  readonly #producer: Producer;
  readonly #lane: Lane;
  readonly #flush: (route: string) => Promise<void>;

  /** @internal */
  constructor(producer: Producer, name: string, flush: (route: string) => Promise<void>) {
    this.#producer = producer;
    this.#lane = producer.lane(name);
    this.#flush = flush;
  }

  get name(): string {
    return this.#lane.route;
  }

  /**
   * Appends one record. The bytes are copied before this returns.
   *
   * Records of one route keep the order of these calls. While the ring is full, they queue in
   * bounded memory. Resolves at the level `wait`: by default `durable`, which survives power loss.
   * Waits through a restart of the daemon; give a `signal` to stop waiting (which does not take
   * the record back).
   *
   * Rejects with `ERR_ELGATE_PAYLOAD_TOO_LARGE`, `ERR_ELGATE_ROUTE_UNKNOWN`,
   * `ERR_ELGATE_LOG_UNAVAILABLE`, `ERR_ELGATE_BACKPRESSURE` (more than the bounded memory holds),
   * `ERR_ELGATE_CLOSED`: the record was not taken; and with `ERR_ELGATE_TIMEOUT` or
   * `ERR_ELGATE_RING_CORRUPT`: its outcome is unknown.
   */
  append(data: Bytes, options?: AppendOptions): Promise<Receipt> {
    return this.#waiting(options, (resolve, reject) => {
      assertBytes(data);
      const route = this.name;
      const done = (lsn: number, level: Level) => resolve({ route, lsn, level });
      const ticket = new Ticket(1, levelOf(options), done, reject, this.#producer);
      this.#lane.stage(data, ticket);
      return [ticket];
    });
  }

  /**
   * Appends records as one group: they become durable together, with consecutive numbers. More than
   * 4,096 records or about 1 MB go as several groups, in order. Otherwise as {@link append}.
   */
  appendMany(records: readonly Bytes[], options?: AppendOptions): Promise<GroupReceipt> {
    if (records.length === 0) return Promise.reject(new TypeError('appendMany: give at least one record'));
    return this.#waiting(options, (resolve, reject) => {
      const route = this.name;
      const wait = levelOf(options);
      records.forEach(assertBytes);
      const tickets: Ticket[] = [];
      let missing = 0;
      let firstLsn = 0;
      const ticketFor = (count: number) => {
        missing += count;
        const first = tickets.length === 0;
        const done = (lsn: number, level: Level) => {
          if (first) firstLsn = lsn;
          missing -= count;
          if (missing > 0) return;
          const last = level === 'accepted' && lsn === 0 ? 0 : lsn + count - 1;
          resolve({ route, firstLsn, lsn: last, count: records.length, level });
        };
        const ticket = new Ticket(count, wait, done, reject, this.#producer);
        tickets.push(ticket);
        return ticket;
      };
      this.#lane.stageMany(records, ticketFor);
      return tickets;
    });
  }

  /**
   * Puts one record into the ring, and nothing more: true means `accepted`, which survives the
   * death of this program and of Elgate. False means back-pressure: the record was not taken;
   * await {@link drained} and post it again. A record that is refused later (no such route, say) is
   * reported by the next `drained()`, `flush()` or `gate.close()`.
   */
  post(data: Bytes): boolean {
    assertBytes(data);
    this.#producer.assertOpen(`route ${this.name}`);
    return this.#lane.post(data);
  }

  /** Resolves when {@link post} has room again. */
  async drained(): Promise<void> {
    this.#producer.assertOpen(`route ${this.name}`);
    await this.#producer.drained(this.#lane);
  }

  /** Resolves when everything appended so far is durable; what makes it so on a route with `flush = "manual"`. */
  async flush(): Promise<void> {
    this.#producer.assertOpen(`route ${this.name}`);
    this.#lane.seal();
    await guardAsync(() => this.#flush(this.name));
    this.#producer.reportFailure(this.#lane);
  }

  #waiting<T>(
    options: AppendOptions | undefined,
    begin: (resolve: (value: T) => void, reject: (reason: unknown) => void) => Ticket[],
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#producer.assertOpen(`route ${this.name}`);
      const signal = options?.signal;
      if (signal === undefined) {
        begin(resolve, reject);
        return;
      }
      signal.throwIfAborted();
      const stop = () => {
        for (const ticket of tickets) ticket.abandoned(signal.reason);
      };
      const settled = () => signal.removeEventListener('abort', stop);
      const tickets = begin(
        (value) => {
          settled();
          resolve(value);
        },
        (reason) => {
          settled();
          reject(reason);
        },
      );
      if (tickets.some((ticket) => ticket.open)) signal.addEventListener('abort', stop, { once: true });
    });
  }
}

const LEVELS: readonly Level[] = ['accepted', 'durable', 'delivered'];

function levelOf(options: AppendOptions | undefined): Level {
  const wait = options?.wait ?? 'durable';
  if (LEVELS.includes(wait)) return wait;
  throw new TypeError(`wait must be one of ${LEVELS.join(', ')}, not ${JSON.stringify(wait)}`);
}
