// Payloads that carry their own number, so that count, order and bytes can be checked afterwards.

export const RECORD_BYTES = 128;

const FILLING = Buffer.alloc(RECORD_BYTES, 'elgate benchmark record ');

/** Memory for one payload, everything but its number in place. */
export function blank() {
  return Buffer.from(FILLING);
}

/** Makes the payloads 0, 1, 2, ... of one log, and checks what was read back. */
export class Numbered {
  #next = 0;

  /**
   * The next payload. `into`, when given, is memory of {@link blank} to write it in: for a consumer
   * that copies before it returns.
   */
  next(into = blank()) {
    into.writeDoubleLE(this.#next, 0);
    this.#next += 1;
    return into;
  }

  /** How many were made. */
  get count() {
    return this.#next;
  }

  /**
   * Compares everything made so far with what `records` yields.
   *
   * @throws {Error} at the first difference: a fast wrong answer is a failure
   */
  async verify(who, records) {
    let expected = 0;
    for await (const record of records) {
      const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
      const right =
        bytes.length === RECORD_BYTES &&
        bytes.readDoubleLE(0) === expected &&
        bytes.compare(FILLING, 8, RECORD_BYTES, 8) === 0;
      if (!right) throw new Error(`${who}: record ${expected} is missing, out of order or changed`);
      expected += 1;
    }
    if (expected !== this.#next)
      throw new Error(`${who}: ${this.#next} records were acknowledged, ${expected} are there`);
  }
}
