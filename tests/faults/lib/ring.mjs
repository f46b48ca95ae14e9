// Reads the ring's own words (RFC 0001, section 3) from its file: how full it is, without asking anybody.

import fs from 'node:fs';

const OFFSET_OF_TAIL = 0x80;
const OFFSET_OF_HEAD = 0x100;

/** Slots claimed and not yet released. */
export function slotsInUse(file) {
  const bytes = Buffer.alloc(OFFSET_OF_HEAD + 8);
  const descriptor = fs.openSync(file, 'r');
  fs.readSync(descriptor, bytes, 0, bytes.length, 0);
  fs.closeSync(descriptor);
  return Number(bytes.readBigUInt64LE(OFFSET_OF_TAIL) - bytes.readBigUInt64LE(OFFSET_OF_HEAD));
}
