// Which files of a log hold what: the segments on disk, and the one that is written to. Layout: RFC 0001, section 4.

import fs from 'node:fs';
import path from 'node:path';
import { FILE_ROUTE } from '../../crash/lib/two-routes.mjs';

const OFFSET_OF_SEQUENCE = 0x20;

/** Paths of the route's segments, oldest first by name. */
export function segmentFiles(gate, route = FILE_ROUTE) {
  const directory = path.join(gate.dataDir, route);
  return fs
    .readdirSync(directory)
    .filter((name) => name.endsWith('.wal'))
    .sort()
    .map((name) => path.join(directory, name));
}

/** The segment that the head file names; undefined while the log is between two. */
export function activeSegment(gate, route = FILE_ROUTE) {
  const { sequence } = gate.head(route);
  return segmentFiles(gate, route).find((file) => sequenceOf(file) === sequence);
}

function sequenceOf(file) {
  const bytes = Buffer.alloc(8);
  const descriptor = fs.openSync(file, 'r');
  fs.readSync(descriptor, bytes, 0, bytes.length, OFFSET_OF_SEQUENCE);
  fs.closeSync(descriptor);
  return Number(bytes.readBigUInt64LE());
}
