// Packs records as the ring takes them, `{ u32le length, bytes }*`, into groups that each become one
// submission.

import { RECORD_FRAME_BYTES, RECORDS_PER_SUBMISSION_MAX } from './limits.js';
import type { Bytes } from './types.js';

/** UTF-8 takes at most three bytes for each UTF-16 unit. */
const UTF8_BYTES_PER_UNIT_MAX = 3;

/** One group of packed records: a submission, or one in the making. */
export class Packer {
  #buffer: Buffer;
  #bytes = 0;
  #count = 0;

  constructor(capacityBytes: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacityBytes);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** Copies one record in; false, and nothing done, if it does not fit. */
  add(data: Bytes): boolean {
    const start = this.#bytes + RECORD_FRAME_BYTES;
    const room = this.#buffer.length - start;
    if (room < 0 || this.#count === RECORDS_PER_SUBMISSION_MAX) return false;
    let length: number;
    if (typeof data === 'string') {
      if (data.length * UTF8_BYTES_PER_UNIT_MAX > room && Buffer.byteLength(data) > room) return false;
      length = this.#buffer.write(data, start);
    } else {
      length = data.byteLength;
      if (length > room) return false;
      this.#buffer.set(data, start);
    }
    this.#buffer.writeUInt32LE(length, this.#bytes);
    this.#bytes = start + length;
    this.#count += 1;
    return true;
  }

  /** Empties it, for the next group. */
  clear(): void {
    this.#bytes = 0;
    this.#count = 0;
  }

  /** A copy of the packed bytes, for a group that has to wait. */
  copy(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#buffer, 0, this.#bytes);
  }
}

/** A group of a single record too large for a slot. */
export function packAlone(data: Bytes): Packer {
  const packer = new Packer(RECORD_FRAME_BYTES + byteLength(data));
  packer.add(data);
  return packer;
}

/** The number of bytes a record will have. */
export function byteLength(data: Bytes): number {
  return typeof data === 'string' ? Buffer.byteLength(data) : data.byteLength;
}

/** Throws a TypeError for what is neither text nor bytes. */
export function assertBytes(data: unknown): asserts data is Bytes {
  if (typeof data === 'string' || data instanceof Uint8Array) return;
  throw new TypeError(`a record is a Uint8Array or a string, not ${data === null ? 'null' : typeof data}`);
}
