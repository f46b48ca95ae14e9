// Makes the end of a stopped log look as a power cut may leave it: a batch whose header got through and whose records did
// not, after the last batch that did. Layout: RFC 0001, section 4.

import fs from 'node:fs';
import path from 'node:path';

const SEGMENT_MAGIC = 'ELGSEG01';
const BATCH_MAGIC = 'EBAT';
const BLOCK = 4096;
const HEADER_BYTES = 64;
/** CRC-32C, reflected. */
const POLYNOMIAL = 0x82f63b78;

/** Tears the newest segment of `route` that holds a batch. Returns where, or undefined if there is no room for it. */
export function tearTail(dataDir, route, random) {
  const newest = segments(dataDir, route)
    .filter(({ batches }) => batches > 0)
    .at(-1);
  if (!newest || newest.end + 2 * BLOCK > newest.size) return undefined;
  const torn = Buffer.alloc(BLOCK + 1_000);
  for (let at = 0; at < torn.length; at += 1) torn[at] = random.int(0, 255);
  newest.header.copy(torn);
  torn.writeUInt32LE(2 * BLOCK, 0x08);
  torn.writeUInt32LE(BLOCK + 504, 0x0c);
  torn.writeBigUInt64LE(BigInt(newest.nextLsn), 0x10);
  torn.writeUInt32LE(1, 0x18);
  torn.writeUInt32LE(headerChecksum(torn, newest.salt), 0x04);
  const descriptor = fs.openSync(newest.file, 'r+');
  fs.writeSync(descriptor, torn, 0, torn.length, newest.end);
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
  return { file: newest.file, offset: newest.end };
}

/**
 * The route's segments by sequence: `{ file, size, sequence, batches, end, offsets }`; `end` is behind the last whole batch.
 * A segment that is used again holds batches of its earlier life, sealed with another salt: they are nothing.
 */
export function segments(dataDir, route) {
  const dir = path.join(dataDir, route);
  const found = [];
  for (const name of fs.readdirSync(dir)) {
    if (!name.endsWith('.wal')) continue;
    const file = path.join(dir, name);
    const bytes = fs.readFileSync(file);
    if (!isMagic(bytes.subarray(0, 8), SEGMENT_MAGIC)) continue;
    const offsets = [];
    let end = BLOCK;
    const salt = bytes.readUInt32LE(0x30);
    let nextLsn;
    let header;
    while (end + BLOCK <= bytes.length && isMagic(bytes.subarray(end, end + 4), BATCH_MAGIC)) {
      const length = bytes.readUInt32LE(end + 8);
      if (headerChecksum(bytes.subarray(end), salt) !== bytes.readUInt32LE(end + 0x04)) break;
      if (length < BLOCK || length % BLOCK !== 0 || end + length > bytes.length) break;
      const records = bytes.readUInt32LE(end + 0x18);
      const firstLsn = Number(bytes.readBigUInt64LE(end + 0x10));
      header = bytes.subarray(end, end + HEADER_BYTES);
      nextLsn = firstLsn + records;
      offsets.push({ offset: end, bytes: length, records, firstLsn });
      end += length;
    }
    found.push({
      file,
      size: bytes.length,
      sequence: Number(bytes.readBigUInt64LE(0x20)),
      batches: offsets.length,
      end,
      offsets,
      salt,
      header,
      nextLsn,
    });
  }
  return found.sort((a, b) => a.sequence - b.sequence);
}

/** Whether the bytes spell `text`, in either byte order. */
function isMagic(bytes, text) {
  const expected = Buffer.from(text);
  return bytes.equals(expected) || Buffer.from(bytes).reverse().equals(expected);
}

/** What a batch header's checksum has to be: CRC-32C of what follows it, begun with the segment's salt. */
function headerChecksum(header, salt) {
  let state = ~salt;
  for (const byte of header.subarray(0x08, HEADER_BYTES)) {
    state ^= byte;
    for (let bit = 0; bit < 8; bit += 1) state = (state >>> 1) ^ (state & 1 ? POLYNOMIAL : 0);
  }
  return ~state >>> 0;
}
