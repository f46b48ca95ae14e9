// Makes the end of a stopped log look as a power cut may leave it: the beginning of a batch that was never completed, after
// the last batch that was. Layout: RFC 0001, section 4.

import fs from 'node:fs';
import path from 'node:path';

const SEGMENT_MAGIC = 'ELGSEG01';
const BATCH_MAGIC = 'EBAT';
const BLOCK = 4096;

/** Tears the newest segment of `route` that holds a batch. Returns where, or undefined if there is no room for it. */
export function tearTail(dataDir, route, random) {
  const newest = segments(dataDir, route)
    .filter(({ batches }) => batches > 0)
    .at(-1);
  if (!newest || newest.end + 2 * BLOCK > newest.size) return undefined;
  const torn = Buffer.alloc(BLOCK + 1_000);
  for (let at = 0; at < torn.length; at += 1) torn[at] = random.int(0, 255);
  newest.magic.copy(torn);
  torn.writeUInt32LE(2 * BLOCK, 8);
  const descriptor = fs.openSync(newest.file, 'r+');
  fs.writeSync(descriptor, torn, 0, torn.length, newest.end);
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
  return { file: newest.file, offset: newest.end };
}

/**
 * The route's segments by sequence: `{ file, size, sequence, batches, end, offsets }`; `end` is behind the last whole batch.
 * A segment that is used again holds batches of its earlier life, whose LSNs do not follow: they are nothing.
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
    let next;
    let magic;
    while (end + BLOCK <= bytes.length && isMagic(bytes.subarray(end, end + 4), BATCH_MAGIC)) {
      const length = bytes.readUInt32LE(end + 8);
      if (length < BLOCK || length % BLOCK !== 0 || end + length > bytes.length) break;
      const records = bytes.readUInt32LE(end + 0x18);
      const firstLsn = Number(bytes.readBigUInt64LE(end + 0x10));
      if (firstLsn !== (next ?? firstLsn)) break;
      next = firstLsn + records;
      magic = bytes.subarray(end, end + 4);
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
      magic,
    });
  }
  found.sort((a, b) => a.sequence - b.sequence);
  let highest = 0;
  return found.map((segment) => {
    const first = segment.offsets[0]?.firstLsn ?? 0;
    if (first < highest) return { ...segment, batches: 0, end: BLOCK, offsets: [] };
    highest = first;
    return segment;
  });
}

/** Whether the bytes spell `text`, in either byte order. */
function isMagic(bytes, text) {
  const expected = Buffer.from(text);
  return bytes.equals(expected) || Buffer.from(bytes).reverse().equals(expected);
}
