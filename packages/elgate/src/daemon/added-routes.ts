// Routes that were added at run time: kept in the data directory, so that they are there after a
// restart. The name of the file starts with a dot, which no route's does.

import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isTable } from '../config/layers.js';
import { ElgateError, messageOf } from '../errors.js';

const FILE = '.added-routes.json';

/** Settings by route, as they were given. */
export type RouteTables = Record<string, unknown>;

export function addedRoutesFile(dataDir: string): string {
  return join(dataDir, FILE);
}

/** Empty if none were ever added. Throws if the file does not hold routes. */
export function readAddedRoutes(dataDir: string): RouteTables {
  const file = addedRoutesFile(dataDir);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new ElgateError('ERR_ELGATE_IO', `cannot read the added routes, ${file}: ${messageOf(error)}`);
  }
  let why = text.trim() === '' ? 'it is empty' : 'it is no table';
  try {
    const value: unknown = JSON.parse(text);
    if (isTable(value)) return value;
  } catch (error) {
    if (text.trim() !== '') why = messageOf(error);
  }
  throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${file} does not hold routes: ${why}`);
}

/** As {@link readAddedRoutes}, but a file that does not hold routes is put aside, and `tell` is told so. */
export function takeAddedRoutes(dataDir: string, tell: (notice: string) => void): RouteTables {
  try {
    return readAddedRoutes(dataDir);
  } catch (error) {
    tell(`${messageOf(error)}; the daemon runs without the routes that were added: ${putAside(dataDir)}`);
    return {};
  }
}

/** Renames the file, over no other, so that the next route added does not replace it; answers the way out. */
function putAside(dataDir: string): string {
  const file = addedRoutesFile(dataDir);
  let aside = `${file}.damaged`;
  for (let number = 2; existsSync(aside); number += 1) aside = `${file}.damaged-${number}`;
  const again = 'add them again with `elgate routes add`';
  try {
    renameSync(file, aside);
    return `the file is kept as ${aside}; ${again}`;
  } catch (error) {
    return `move the file away (${messageOf(error)}), and ${again}`;
  }
}

/** Replaces the file; the new one is there, whole, or the old one is. */
export function writeAddedRoutes(dataDir: string, routes: RouteTables): void {
  mkdirSync(dataDir, { recursive: true });
  const file = addedRoutesFile(dataDir);
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
