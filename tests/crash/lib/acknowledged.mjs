// How many records the producers have written down as acknowledged: progress that no head file on a faulty disk tells.

import fs from 'node:fs';

export class Acknowledged {
  #pool;
  #files = new Map();
  #count = 0;

  constructor(pool) {
    this.#pool = pool;
  }

  /** Reads what was added to the journals since the last call. */
  count() {
    for (const journal of this.#pool.journals) this.#read(journal);
    return this.#count;
  }

  #read(journal) {
    if (!fs.existsSync(journal)) return;
    const file = this.#files.get(journal) ?? { at: 0, rest: '' };
    this.#files.set(journal, file);
    const size = fs.statSync(journal).size;
    if (size === file.at) return;
    const bytes = Buffer.alloc(size - file.at);
    const descriptor = fs.openSync(journal, 'r');
    file.at += fs.readSync(descriptor, bytes, 0, bytes.length, file.at);
    fs.closeSync(descriptor);
    const lines = (file.rest + bytes.toString('latin1')).split('\n');
    file.rest = lines.pop();
    for (const line of lines) if (line.split(' ', 2)[1] === 'o') this.#count += 1;
  }
}
