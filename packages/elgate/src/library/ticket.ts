// One caller waiting for one or more records of one group.

import type { ElgateError } from '../errors.js';
import type { Level } from './types.js';

/** Counts those who wait, so that the process stays alive exactly as long as somebody does. */
export interface WaitCount {
  waitBegan(): void;
  waitEnded(): void;
}

export class Ticket {
  /** Position of the first record in its group; set when it is staged. */
  index = 0;
  #open = true;

  constructor(
    readonly count: number,
    readonly wait: Level,
    readonly resolve: (firstLsn: number, level: Level) => void,
    readonly reject: (reason: unknown) => void,
    readonly waits: WaitCount,
  ) {
    waits.waitBegan();
  }

  /** Whether the caller has not been answered. */
  get open(): boolean {
    return this.#open;
  }

  /** The wanted level is reached. */
  reached(firstLsn: number, level: Level): void {
    if (this.#end()) this.resolve(firstLsn, level);
  }

  failed(error: ElgateError): void {
    if (this.#end()) this.reject(error);
  }

  /** The caller waits no longer. */
  abandoned(reason: unknown): void {
    if (this.#end()) this.reject(reason);
  }

  #end(): boolean {
    if (!this.#open) return false;
    this.#open = false;
    this.waits.waitEnded();
    return true;
  }
}
