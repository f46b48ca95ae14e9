// What a file sink must not write: Elgate's own files, and the file of another route by whatever name.

import { lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { ElgateError } from '../errors.js';
import type { Origin } from './layers.js';
import type { RouteConfig } from './route-schema.js';
import type { Config } from './schema.js';

/** As many as the kernel follows. */
const LINKS_MAX = 40;

/** Throws `ERR_ELGATE_CONFIG_INVALID` for the first route of `routes` whose file is not its own. */
export function checkSinkPaths(config: Config, routes: Record<string, RouteConfig>, origin: Origin): void {
  const writers = new Map<string, string>();
  for (const [name, { path: below }] of Object.entries(routes)) {
    if (below === undefined) continue;
    const path = resolve(config.filesRoot, below);
    const other = writers.get(identity(path));
    const why =
      ownFile(config, path) ??
      (other === undefined ? undefined : `is the file of route ${other} by another name; give each route its own`);
    if (why !== undefined) {
      const key = ['routes', name, 'path'];
      throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${origin(key)}: ${key.join('.')}: ${path} ${why}`);
    }
    writers.set(identity(path), name);
  }
}

/** What of Elgate's own `path` leads to, if anything. */
function ownFile(config: Config, path: string): string | undefined {
  const real = realPath(path);
  const dataDir = realPath(config.dataDir);
  if (real === dataDir || real.startsWith(dataDir + sep)) {
    return `leads into data_dir (${config.dataDir}), where the logs are; name a file elsewhere`;
  }
  const ring = realPath(config.ring.path);
  if (real.startsWith(`${ring}.`) || identity(path) === identity(ring)) {
    return `is the ring (${config.ring.path}) or belongs to it; name another file`;
  }
  if (config.file !== null && identity(path) === identity(resolve(config.file))) {
    return 'is the configuration file; name another file';
  }
  return undefined;
}

/** The same for two names of one file; of one that is not there, what its name will lead to. */
function identity(path: string): string {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return realPath(path);
  }
}

/** `path` without links, as far as it exists. What the file system does not tell is taken as it is written. */
function realPath(path: string, links = 0): string {
  try {
    return realpathSync(path);
  } catch {
    if (dirname(path) === path || links === LINKS_MAX) return path;
    const target = linkTarget(path);
    if (target !== undefined) return realPath(resolve(realPath(dirname(path), links), target), links + 1);
    return join(realPath(dirname(path), links), basename(path));
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}
