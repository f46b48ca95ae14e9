// The configuration of an embedded engine, from a program's options.

import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { KeyPath } from '../config/document.js';
import type { Override } from '../config/layers.js';
import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { closest } from '../config/suggest.js';
import { ElgateError } from '../errors.js';
import type { OpenOptions } from './types.js';

/** Variables that concern the machine, not the daemon's whereabouts. */
const VARIABLES = ['ELGATE_MODE', 'ELGATE_BACKEND', 'ELGATE_SHARDS', 'ELGATE_PIN'];

const OPTIONS: Record<Exclude<keyof OpenOptions, 'config' | 'routes'>, KeyPath> = {
  dataDir: ['data_dir'],
  filesRoot: ['files', 'root'],
  ring: ['ring', 'path'],
  mode: ['runtime', 'mode'],
  backend: ['runtime', 'backend'],
  shards: ['runtime', 'shards'],
  pin: ['runtime', 'pin'],
};

/** A configuration, and what to do once its engine is closed. */
export function embeddedConfig(options: OpenOptions): { config: Config; cleanUp: () => void } {
  const { config: file, routes = {}, ...rest } = options;
  refuseUnknownOptions('open', options, ['config', 'routes', ...Object.keys(OPTIONS)]);
  const overrides: Override[] = Object.entries(rest).map(([name, value]) => ({
    path: OPTIONS[name as keyof typeof OPTIONS],
    value,
    from: `option ${name}`,
  }));
  for (const [name, route] of Object.entries(routes)) {
    overrides.push({ path: ['routes', name], value: snakeCase(route), from: 'option routes' });
  }
  const env = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
  const config = loadConfig({ file, search: false, overrides, env });
  const stub = config.runtime.mode === 'test-stub';
  const scratch = stub ? mkdtempSync(join(tmpdir(), 'elgate-stub-')) : undefined;
  if (scratch !== undefined) {
    if (!config.given(['data_dir'])) config.dataDir = join(scratch, 'data');
    if (!config.given(['ring', 'path'])) config.ring = { path: join(scratch, 'ring'), removeOnClose: true };
  } else if (!config.given(['ring', 'path'])) {
    config.ring = { path: ringFor(config.dataDir), removeOnClose: true };
  }
  const cleanUp = () => {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  };
  return { config, cleanUp };
}

/** Throws if `options` holds a key that the function does not know: a mistyped one would do nothing. */
export function refuseUnknownOptions(what: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const guess = closest(unknown, known);
  const way = guess === undefined ? `known are ${known.join(', ')}` : `did you mean '${guess}'?`;
  throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${what}: unknown option ${unknown}; ${way}`);
}

/** A ring of the data directory's own, the same at every `open`: what it holds after a crash is found again. */
function ringFor(dataDir: string): string {
  const directory = existsSync(dataDir) ? realpathSync(dataDir) : resolve(dataDir);
  const digest = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  return join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `elgate_ring_${digest}`);
}

/** Keys of the configuration file from the library's. The names of header fields stay as they are. */
function snakeCase(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) => {
      if (inner === undefined) return [];
      const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return [[name, key === 'headers' ? inner : snakeCase(inner)]];
    }),
  );
}
