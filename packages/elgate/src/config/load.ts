// Finds the configuration and puts it together: which file, which variables, which flags, and what
// was chosen where nobody said anything.

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ElgateError } from '../errors.js';
import type { KeyPath } from './document.js';
import { environmentOverrides, layer, type Override } from './layers.js';
import { checkSinkPaths } from './own-paths.js';
import { adminUrl, type Config, parseConfig } from './schema.js';

export interface LoadOptions {
  /** A file named by `--config` or an option; else ELGATE_CONFIG, else `elgate.toml` or `elgate.json` here. */
  file?: string | undefined;
  /** Looked for in `cwd` if nobody names a file. Default true. */
  search?: boolean;
  /** Laid over everything else. */
  overrides?: readonly Override[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
}

const FILES = ['elgate.toml', 'elgate.json'];

/** The configuration, complete. Throws `ERR_ELGATE_CONFIG_INVALID`. */
export function loadConfig(options: LoadOptions = {}): Config {
  const { overrides = [], env = process.env, cwd = process.cwd(), search = true } = options;
  const named = options.file ?? (env.ELGATE_CONFIG || undefined);
  const found = search ? FILES.find((name) => existsSync(resolve(cwd, name))) : undefined;
  const file = named ?? found ?? null;
  // Read by absolute path but shown as it was named.
  const shown = file === null ? null : resolve(cwd, file) === resolve(file) ? file : resolve(cwd, file);
  return parseConfig(layer(shown, [...environmentOverrides(env), ...overrides]), shown, cwd);
}

/** What stands in for settings that nobody made, one phrase each. */
export function chosenDefaults(config: Config): string[] {
  const choices: [KeyPath, string][] = [
    [['data_dir'], `data_dir ${config.dataDir}`],
    [['ring', 'path'], `ring ${config.ring.path}`],
    [['admin', 'listen'], `control API ${adminUrl(config.admin)}`],
    [['runtime', 'mode'], `mode ${config.runtime.mode}`],
    [['runtime', 'backend'], `backend ${config.runtime.backend}`],
  ];
  return choices.filter(([path]) => !config.given(path)).map(([, phrase]) => phrase);
}

/**
 * Refuses paths without which there is no engine, and files that are not a route's own, naming the setting. A route whose file cannot be
 * opened just now is none of them: the engine calls it failed, and tries again.
 */
export function checkReachable(config: Config): void {
  checkDirectory(config, ['data_dir'], config.dataDir);
  const ringHome = dirname(config.ring.path);
  if (!isDirectory(ringHome)) {
    fail(
      config,
      ['ring', 'path'],
      `${ringHome} is not a directory that can be reached; name a file in one that exists, best in /dev/shm`,
    );
  }
  if (isDirectory(config.ring.path)) fail(config, ['ring', 'path'], `${config.ring.path} is a directory; name a file`);
  checkSinkPaths(config, config.routes, config.origin);
}

/** It exists and is a directory, or can be made. */
function checkDirectory(config: Config, path: KeyPath, directory: string): void {
  let nearest = directory;
  while (!existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest);
  if (!isDirectory(nearest)) fail(config, path, `${nearest} is not a directory; remove it or choose another path`);
  try {
    accessSync(nearest, constants.W_OK | constants.X_OK);
  } catch {
    const message = `this user may not write in ${nearest}; give it that permission or choose another path`;
    throw new ElgateError('ERR_ELGATE_PERMISSION_DENIED', `${config.origin(path)}: ${path.join('.')}: ${message}`);
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function fail(config: Config, path: KeyPath, what: string): never {
  throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${config.origin(path)}: ${path.join('.')}: ${what}`);
}
