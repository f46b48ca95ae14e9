// One route's way into the ring: records are staged during a tick, packed into groups of about one
// slot, and handed over in order; while the ring is full, groups queue here.

import { ElgateError, errorOfNumber, guard } from '../errors.js';
import { PAYLOAD_BYTES_MAX, RECORD_FRAME_BYTES, SUBMISSION_BYTES_MAX, slotBytes } from './limits.js';
import { byteLength, Packer, packAlone } from './packer.js';
import type { Producer } from './producer.js';
import type { Ticket } from './ticket.js';
import type { Bytes } from './types.js';

/** Records that travel together, and who waits for them. */
export interface Group {
  readonly packed: Uint8Array;
  readonly bytes: number;
  readonly count: number;
  readonly tickets: Ticket[];
}

/** The negative of `ERR_ELGATE_BACKPRESSURE`'s number, as the ring answers it. */
const RING_FULL = -5;

export class Lane {
  readonly handle: number;
  readonly #producer: Producer;
  readonly #packer: Packer;
  #tickets: Ticket[] = [];
  #queue: Group[] = [];
  #queuedBytes = 0;
  #flushScheduled = false;
  /** Durable records whose delivery somebody waits for, in order of LSN. */
  #undelivered: { lsn: number; firstLsn: number; ticket: Ticket }[] = [];

  constructor(
    producer: Producer,
    readonly route: string,
  ) {
    this.#producer = producer;
    this.handle = guard(() => producer.client.route(route));
    this.#packer = new Packer(slotBytes(route));
  }

  /** Whether groups wait for the ring to have space. */
  get stalled(): boolean {
    return this.#queue.length > 0;
  }

  /** Bytes of the groups that wait. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Takes one record; it is handed over at the end of this tick, or when a slot is full. */
  stage(data: Bytes, ticket: Ticket): void {
    if (this.#packer.add(data)) {
      this.#staged(ticket);
      return;
    }
    const refusal = this.#refusal(byteLength(data));
    if (refusal !== undefined) {
      ticket.failed(refusal);
      return;
    }
    this.seal();
    if (this.#packer.add(data)) {
      this.#staged(ticket);
      return;
    }
    const alone = packAlone(data);
    this.#send({ packed: alone.buffer, bytes: alone.bytes, count: 1, tickets: [ticket] });
  }

  #staged(ticket: Ticket): void {
    ticket.index = this.#packer.count - 1;
    this.#tickets.push(ticket);
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    // Not a microtask: this runs once all microtasks are done, so that everything that awaited an
    // earlier batch of acknowledgements lands in the same group.
    process.nextTick(() => {
      this.#flushScheduled = false;
      // While the ring is full, records go on collecting in the open group.
      if (!this.stalled) this.seal();
    });
  }

  /**
   * Takes records as groups of their own: one, unless they are more than one submission can hold.
   * Nothing is taken if any record is refused.
   */
  stageMany(records: readonly Bytes[], ticketFor: (count: number) => Ticket): void {
    const sizes = records.map((record) => RECORD_FRAME_BYTES + byteLength(record));
    for (const size of sizes) {
      const refusal = this.#refusal(size - RECORD_FRAME_BYTES);
      if (refusal !== undefined) throw refusal;
    }
    this.seal();
    const total = sizes.reduce((sum, size) => sum + size, 0);
    let packer = new Packer(Math.min(total, SUBMISSION_BYTES_MAX));
    const send = () => {
      const { buffer, bytes, count } = packer;
      this.#send({ packed: buffer, bytes, count, tickets: [ticketFor(count)] });
    };
    for (const record of records) {
      if (packer.add(record)) continue;
      send();
      packer = new Packer(Math.min(total, SUBMISSION_BYTES_MAX));
      packer.add(record);
    }
    send();
  }

  /** One record, straight into the ring, unless others are ahead of it. False: the ring is full. */
  post(data: Bytes): boolean {
    this.seal();
    if (this.stalled) return false;
    const result = this.#producer.client.post(this.handle, data);
    if (result > 0) return true;
    if (result === RING_FULL) return false;
    throw errorOfNumber(-result, `posting to route ${this.route}`);
  }

  /** Hands over what is staged. */
  seal(): void {
    if (this.#packer.count === 0) return;
    const packer = this.#packer;
    const tickets = this.#tickets;
    this.#tickets = [];
    this.#send({ packed: packer.buffer, bytes: packer.bytes, count: packer.count, tickets }, true);
    packer.clear();
  }

  /** Hands over what had to wait. False: the ring is full again. */
  pump(): boolean {
    while (this.#queue.length > 0) {
      const group = this.#queue[0] as Group;
      if (!this.#submit(group)) return false;
      this.#queue.shift();
      this.#unqueued(group);
    }
    this.seal();
    return !this.stalled;
  }

  /** Gives up what was never handed over. */
  abandon(error: ElgateError): void {
    for (const group of this.#queue) {
      this.#unqueued(group);
      for (const ticket of group.tickets) ticket.failed(error);
    }
    this.#queue = [];
    for (const ticket of this.#tickets) ticket.failed(error);
    this.#tickets = [];
    this.#packer.clear();
  }

  /** Gives up waiting for deliveries. */
  abandonDeliveries(error: ElgateError): void {
    for (const { ticket } of this.#undelivered) ticket.failed(error);
    this.#undelivered = [];
  }

  /** The records up to `lsn` are durable; tell `ticket` when they are delivered. */
  awaitDelivery(firstLsn: number, lsn: number, ticket: Ticket): void {
    this.#undelivered.push({ lsn, firstLsn, ticket });
    if (this.#undelivered.length === 1) this.#producer.client.watchDelivered(this.handle, lsn);
  }

  /** Answers those whose records the sink has passed. */
  settleDeliveries(): void {
    if (this.#undelivered.length === 0) return;
    const delivered = this.#producer.client.delivered(this.handle);
    const pending = this.#undelivered.findIndex(({ lsn }) => lsn > delivered);
    const done = this.#undelivered.splice(0, pending === -1 ? this.#undelivered.length : pending);
    for (const { ticket, firstLsn } of done) ticket.reached(firstLsn, 'delivered');
    const next = this.#undelivered[0];
    if (next !== undefined && done.length > 0) this.#producer.client.watchDelivered(this.handle, next.lsn);
  }

  #refusal(bytes: number): ElgateError | undefined {
    if (bytes > PAYLOAD_BYTES_MAX) {
      const what = `route ${this.route}: a record of ${bytes} bytes is over the limit`;
      return new ElgateError(
        'ERR_ELGATE_PAYLOAD_TOO_LARGE',
        `${what}: split it, one record holds at most 1,000,000 bytes`,
      );
    }
    return this.#producer.queueRefusal(this);
  }

  #unqueued(group: Group): void {
    this.#queuedBytes -= group.bytes;
    this.#producer.unqueued(group.bytes);
  }

  /** `reused`: the bytes will be overwritten, so a group that has to wait needs a copy. */
  #send(group: Group, reused = false): void {
    if (!this.stalled && this.#submit(group)) return;
    const packed = reused ? Uint8Array.prototype.slice.call(group.packed, 0, group.bytes) : group.packed;
    this.#queue.push({ ...group, packed });
    this.#queuedBytes += group.bytes;
    this.#producer.queued(this, group.bytes);
  }

  /** False: the ring is full. Any other refusal is the answer to those who wait. */
  #submit(group: Group): boolean {
    const { client } = this.#producer;
    const operation = client.submit(this.handle, group.packed, group.bytes, group.count);
    if (operation === RING_FULL) return false;
    if (operation > 0) {
      for (const ticket of group.tickets) {
        if (ticket.wait === 'accepted') ticket.reached(0, 'accepted');
      }
      this.#producer.submitted(operation, this, group.tickets);
    } else {
      const error = errorOfNumber(-operation, `appending to route ${this.route}`);
      for (const ticket of group.tickets) ticket.failed(error);
    }
    return true;
  }
}
