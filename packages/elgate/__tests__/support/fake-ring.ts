// The ring's stand-in, with its daemon and its producers, in memory: with knobs for what goes wrong.

import type { NativeClient } from '../../src/native/binding.js';

export interface FakeRecord {
  lsn: number;
  timeUs: number;
  data: Buffer;
}

interface Submission {
  client: FakeClient;
  operation: number;
  route: string;
  records: Buffer[];
}

/** An error as the addon throws it. */
export function nativeError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** One ring and the daemon behind it. */
export class FakeRing {
  alive = true;
  /** Submissions it holds before it is full. */
  capacity = 1000;
  /** Routes that take nothing for now. */
  readonly parked = new Set<string>();
  /** While true, nothing is taken out. */
  held = false;
  /** Answer to the next submissions, instead of taking them: error numbers. */
  refusals: number[] = [];
  level = 2;
  /** While true, records become durable but are not delivered. */
  deliveriesHeld = false;
  /** What came in, submission by submission. */
  readonly taken: { route: string; records: string[] }[] = [];
  readonly logs = new Map<string, FakeRecord[]>();
  readonly delivered = new Map<string, number>();
  readonly clients = new Set<FakeClient>();
  routes: Map<string, unknown> | undefined;
  readonly #waiting: Submission[] = [];
  #scheduled = false;

  constructor(
    readonly path: string,
    readonly dataDir: string,
  ) {}

  get used(): number {
    return this.#waiting.length;
  }

  put(submission: Submission): void {
    this.#waiting.push(submission);
    this.schedule();
  }

  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.consume();
    });
  }

  /** Takes out everything, unless held. */
  consume(): void {
    while (!this.held && this.#waiting.length > 0) {
      const submission = this.#waiting.shift() as Submission;
      const refusal = this.refusals.shift() ?? this.#unknown(submission.route);
      const records = submission.records.map((record) => record.toString('latin1'));
      if (refusal !== undefined) {
        submission.client.complete([submission.operation, records.length, 0, refusal, 0], submission.route);
        continue;
      }
      this.taken.push({ route: submission.route, records });
      const log = this.log(submission.route);
      const first = log.length + 1;
      submission.records.forEach((data, index) => {
        log.push({ lsn: first + index, timeUs: 1_700_000_000_000_000 + first + index, data });
      });
      if (!this.deliveriesHeld) this.delivered.set(submission.route, log.length);
      submission.client.complete([submission.operation, records.length, first, 0, this.level], submission.route);
    }
    for (const client of this.clients) client.spaceMayBeThere();
  }

  deliverAll(): void {
    this.deliveriesHeld = false;
    for (const [route, log] of this.logs) this.delivered.set(route, log.length);
    for (const client of this.clients) client.ring();
  }

  log(route: string): FakeRecord[] {
    let log = this.logs.get(route);
    if (log === undefined) {
      log = [];
      this.logs.set(route, log);
    }
    return log;
  }

  #unknown(route: string): number | undefined {
    return this.routes === undefined || this.routes.has(route) ? undefined : 2;
  }
}

export class FakeClient implements NativeClient {
  referenced = true;
  closed = false;
  readonly #ring: FakeRing;
  readonly #routes: string[] = [];
  readonly #completions: number[][] = [];
  #operation = 1;
  #callback: (() => void) | undefined;
  #ringing = false;
  readonly #wantsSpace = new Set<number>();
  #watched = false;
  #outstanding = 0;

  constructor(ring: FakeRing) {
    this.#ring = ring;
    ring.clients.add(this);
  }

  route(name: string): number {
    if (!/^[a-z0-9][a-z0-9._-]*$/.test(name)) {
      throw nativeError('ERR_ELGATE_ROUTE_NAME_INVALID', `route name ${JSON.stringify(name)} is not valid`);
    }
    return this.#routes.push(name) - 1;
  }

  submit(route: number, packed: Uint8Array, packedBytes: number, count: number): number {
    if (!this.spaceAvailable(route)) return -5;
    const view = Buffer.from(packed.subarray(0, packedBytes));
    const records: Buffer[] = [];
    let at = 0;
    while (at < view.length) {
      const length = view.readUInt32LE(at);
      records.push(view.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    if (at !== view.length || records.length !== count || count > 4096) return -9;
    const operation = this.#operation;
    this.#operation += count;
    this.#outstanding += 1;
    this.#ring.put({ client: this, operation, route: this.#routes[route] as string, records });
    return operation;
  }

  post(route: number, data: Uint8Array | string): number {
    const bytes = Buffer.from(data as string);
    if (bytes.length > 1_000_000) return -4;
    const packed = Buffer.alloc(4 + bytes.length);
    packed.writeUInt32LE(bytes.length);
    bytes.copy(packed, 4);
    return this.submit(route, packed, packed.length, 1);
  }

  drain(out: Float64Array): number {
    this.#ringing = false;
    const groups = this.#completions.splice(0, Math.floor(out.length / 6));
    groups.forEach((group, index) => {
      out.set(group, index * 6);
    });
    this.#outstanding -= groups.length;
    return groups.length;
  }

  onReady(callback: () => void): void {
    this.#callback = callback;
  }

  ref(): void {
    this.referenced = true;
  }

  unref(): void {
    this.referenced = false;
  }

  watchDelivered(): void {
    this.#watched = true;
    if (!this.#ring.deliveriesHeld) this.ring();
  }

  delivered(route: number): number {
    return this.#ring.delivered.get(this.#routes[route] as string) ?? 0;
  }

  daemonAlive(): boolean {
    return this.#ring.alive;
  }

  dataDir(): string {
    return this.#ring.dataDir;
  }

  outstanding(): number {
    return this.#outstanding;
  }

  spaceAvailable(route: number): boolean {
    return this.#ring.used < this.#ring.capacity && !this.#ring.parked.has(this.#routes[route] as string);
  }

  notifySpace(route: number): void {
    this.#wantsSpace.add(route);
    this.#ring.schedule();
  }

  close(): void {
    this.closed = true;
    this.#ring.clients.delete(this);
  }

  // The ring's side.

  complete(group: number[], route: string): void {
    this.#completions.push([...group, this.#routes.indexOf(route)]);
    this.ring();
  }

  spaceMayBeThere(): void {
    if (this.#watched && !this.#ring.deliveriesHeld) this.ring();
    const found = [...this.#wantsSpace].filter((route) => this.spaceAvailable(route));
    for (const route of found) this.#wantsSpace.delete(route);
    if (found.length > 0) this.ring();
  }

  ring(): void {
    if (this.#ringing || this.closed) return;
    this.#ringing = true;
    setImmediate(() => {
      if (!this.closed) this.#callback?.();
    });
  }
}
