// Cuts a stream of bytes into lines. Any byte but the line feed is a line's own, carriage returns and
// zeros included.

const LINE_FEED = 10;

export class LineTooLong extends Error {
  constructor(
    readonly line: number,
    readonly limit: number,
  ) {
    super(`line ${line} is longer than ${limit} bytes`);
  }
}

export class LineSplitter {
  #partial: Buffer[] = [];
  #partialBytes = 0;
  #lines = 0;

  constructor(readonly limit: number) {}

  /** The lines that `chunk` completes. Throws {@link LineTooLong} instead of yielding one that is. */
  *push(chunk: Buffer): Generator<Buffer> {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
      const line = this.#complete(chunk.subarray(start, end));
      start = end + 1;
      yield line;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** What stands after the last line feed, if anything does. */
  end(): Buffer | undefined {
    return this.#partialBytes === 0 ? undefined : this.#complete(Buffer.alloc(0));
  }

  #complete(rest: Buffer): Buffer {
    this.#check(rest.length);
    this.#lines += 1;
    if (this.#partialBytes === 0) return rest;
    const line = Buffer.concat([...this.#partial, rest]);
    this.#partial = [];
    this.#partialBytes = 0;
    return line;
  }

  #keep(piece: Buffer): void {
    this.#check(piece.length);
    this.#partial.push(piece);
    this.#partialBytes += piece.length;
  }

  /** As soon as it is known, so that a file without line feeds does not fill memory. */
  #check(more: number): void {
    if (this.#partialBytes + more > this.limit) throw new LineTooLong(this.#lines + 1, this.limit);
  }
}
