// Where things are: the clone, and the directories cargo builds into.

import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the clone. */
export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Elgate's own cache outside the clone: tools, and (where it exists) cargo's output. */
export const cacheDir = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'elgate');

/**
 * Cargo's target directory: `CARGO_TARGET_DIR` if set, else `ELGATE_TARGET_DIR`, else
 * `~/.cache/elgate/target` if somebody made it (so that fresh clones build incrementally), else
 * `target` in the clone.
 */
export function targetDir() {
  const { CARGO_TARGET_DIR, ELGATE_TARGET_DIR } = process.env;
  if (CARGO_TARGET_DIR) return CARGO_TARGET_DIR;
  if (ELGATE_TARGET_DIR) return ELGATE_TARGET_DIR;
  const shared = join(cacheDir, 'target');
  return existsSync(shared) ? shared : join(root, 'target');
}

/** Where the built addons are put. */
export const nativeDir = join(root, 'packages/elgate/native');

/** The platform as npm's prebuilt packages name it, for example `linux-x64-gnu`. */
export function platformTriple() {
  const { glibcVersionRuntime } = process.report.getReport().header;
  return `${process.platform}-${process.arch}-${glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

/** The `elgate` command's entry file, as packages/elgate/package.json names it. */
export function cliEntry() {
  const manifest = JSON.parse(readFileSync(join(root, 'packages/elgate/package.json'), 'utf8'));
  const entry = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin.elgate;
  return join(root, 'packages/elgate', entry);
}
