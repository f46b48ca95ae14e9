// Reads a log's head file (RFC 0001, section 4): the watermarks that the writer publishes in shared memory. This is
// how the harness knows, without asking the daemon, whether data is flowing at the moment of a kill.

import fs from 'node:fs';
import path from 'node:path';

const MAGIC = Buffer.from('ELGHEAD1');

/** `{ visible, durable, delivered, sequence, durableEnd, epoch, first }`, or undefined if there is no log yet. */
export function readHead(dataDir, route) {
  const bytes = Buffer.alloc(0xb8);
  let descriptor;
  try {
    descriptor = fs.openSync(path.join(dataDir, route, 'head'), 'r');
    if (fs.readSync(descriptor, bytes, 0, bytes.length, 0) < bytes.length) return undefined;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
  const reversed = Buffer.from(MAGIC).reverse();
  if (!bytes.subarray(0, 8).equals(MAGIC) && !bytes.subarray(0, 8).equals(reversed)) return undefined;
  const word = (offset) => Number(bytes.readBigUInt64LE(offset));
  return {
    visible: word(0x80),
    durable: word(0x88),
    delivered: word(0x90),
    sequence: word(0x98),
    durableEnd: word(0xa0),
    epoch: word(0xa8),
    first: word(0xb0),
  };
}

/** The durable LSN of a log; 0 if there is no log yet. */
export const durableLsn = (dataDir, route) => readHead(dataDir, route)?.durable ?? 0;
