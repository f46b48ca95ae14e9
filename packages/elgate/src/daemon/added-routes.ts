// Routes that were added at run time: kept in the data directory, so that they are there after a
// restart. The name of the file starts with a dot, which no route's does.

import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isTable } from '../config/layers.js';
import { ElgateError, messageOf } from '../errors.js';

const FILE = '.added-routes.json';

export type RouteTables = Record<string, Record<string, unknown>>;

/** Settings by route, as they were given. Empty if none were ever added. */
export function readAddedRoutes(dataDir: string): RouteTables {
  const file = join(dataDir, FILE);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new ElgateError('ERR_ELGATE_IO', `cannot read the added routes: ${messageOf(error)}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isTable(value) && Object.values(value).every(isTable)) return value as RouteTables;
  } catch {
    // Told below, together with JSON that is something else.
  }
  throw new ElgateError(
    'ERR_ELGATE_CONFIG_INVALID',
    `${file} does not hold routes: delete it, and add its routes again with \`elgate routes add\``,
  );
}

/** Replaces the file; the new one is there, whole, or the old one is. */
export function writeAddedRoutes(dataDir: string, routes: RouteTables): void {
  mkdirSync(dataDir, { recursive: true });
  const file = join(dataDir, FILE);
  const next = openSync(`${file}.new`, 'w', 0o600);
  try {
    writeSync(next, `${JSON.stringify(routes, null, 2)}\n`);
    fsyncSync(next);
  } finally {
    closeSync(next);
  }
  renameSync(`${file}.new`, file);
  const directory = openSync(dataDir, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
