// The settings as one tree, put together from the file, the environment and the command line (or a
// program's options), later over earlier, each value remembering where it came from.

import { ElgateError } from '../errors.js';
import { type ConfigDocument, type KeyPath, readDocument } from './document.js';
import { slipOf } from './suggest.js';

/** Where a value came from, for messages: `elgate.toml:12`, `ELGATE_MODE`, `--mode`. */
export type Origin = (path: KeyPath) => string;

/** One value laid over the file's. */
export interface Override {
  readonly path: KeyPath;
  readonly value: unknown;
  /** The variable's, flag's or option's name. */
  readonly from: string;
}

export interface Layers {
  readonly tree: Record<string, unknown>;
  readonly origin: Origin;
  /** Whether anybody gave a value at this path (as opposed to a default standing in). */
  given(path: KeyPath): boolean;
  /** Whether the value at this path came from an override, not from the file. */
  overridden(path: KeyPath): boolean;
}

/** Environment variables and the settings they stand for. */
const ENVIRONMENT: readonly { name: string; path: KeyPath; type: 'string' | 'integer' | 'boolean' }[] = [
  { name: 'ELGATE_DATA_DIR', path: ['data_dir'], type: 'string' },
  { name: 'ELGATE_RING', path: ['ring', 'path'], type: 'string' },
  { name: 'ELGATE_ADMIN', path: ['admin', 'listen'], type: 'string' },
  { name: 'ELGATE_ADMIN_TOKEN', path: ['admin', 'token'], type: 'string' },
  { name: 'ELGATE_MODE', path: ['runtime', 'mode'], type: 'string' },
  { name: 'ELGATE_SHARDS', path: ['runtime', 'shards'], type: 'integer' },
  { name: 'ELGATE_PIN', path: ['runtime', 'pin'], type: 'boolean' },
  { name: 'ELGATE_BACKEND', path: ['runtime', 'backend'], type: 'string' },
  { name: 'ELGATE_FILES_ROOT', path: ['files', 'root'], type: 'string' },
];

const PREFIX = 'ELGATE_';
const SHORT_NAMES = [...ENVIRONMENT.map(({ name }) => name), 'ELGATE_CONFIG'].map((name) => name.slice(PREFIX.length));

/** What the environment sets. An empty variable counts as unset; a mistyped one is an error, for it would do nothing. */
export function environmentOverrides(env: NodeJS.ProcessEnv): Override[] {
  for (const name of Object.keys(env)) {
    if (!name.startsWith(PREFIX) || SHORT_NAMES.includes(name.slice(PREFIX.length))) continue;
    const meant = slipOf(name.slice(PREFIX.length), SHORT_NAMES);
    if (meant === undefined) continue;
    throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${name}: unknown variable; did you mean ${PREFIX}${meant}?`);
  }
  return ENVIRONMENT.flatMap(({ name, path, type }) => {
    const text = env[name];
    return text ? [{ path, value: typed(text, type), from: name }] : [];
  });
}

/** Text that is not of the type stays text, for the schema to refuse with the variable's name. */
function typed(text: string, type: 'string' | 'integer' | 'boolean'): unknown {
  if (type === 'integer' && /^-?\d+$/.test(text)) return Number(text);
  if (type === 'boolean' && /^(true|1)$/.test(text)) return true;
  if (type === 'boolean' && /^(false|0)$/.test(text)) return false;
  return text;
}

/** Lays `overrides`, in order, over the file (if there is one). */
export function layer(file: string | null, overrides: readonly Override[]): Layers {
  const document: ConfigDocument | null = file === null ? null : readDocument(file);
  const tree = structuredClone(document?.tree ?? {});
  const sources = new Map<string, string>();
  for (const { path, value, from } of overrides) {
    if (value === undefined) continue;
    place(tree, path, value);
    sources.set(JSON.stringify(path), from);
  }
  const overriding = (path: KeyPath): string | undefined => {
    for (let length = path.length; length > 0; length -= 1) {
      const from = sources.get(JSON.stringify(path.slice(0, length)));
      if (from !== undefined) return from;
    }
    return undefined;
  };
  return {
    tree,
    origin: (path) =>
      overriding(path) ?? (document === null ? 'defaults' : `${document.file}:${document.lineOf(path)}`),
    given: (path) => lookUp(tree, path) !== undefined,
    overridden: (path) => overriding(path) !== undefined,
  };
}

function place(tree: Record<string, unknown>, path: KeyPath, value: unknown): void {
  let table = tree;
  for (const key of path.slice(0, -1)) {
    const next = table[key];
    // A value of the wrong type in the way is left for the schema to refuse.
    if (next !== undefined && !isTable(next)) return;
    const inner = next ?? {};
    table[key] = inner;
    table = inner;
  }
  table[path[path.length - 1] as string] = value;
}

function lookUp(tree: unknown, path: KeyPath): unknown {
  return path.reduce<unknown>((value, key) => (isTable(value) ? value[key] : undefined), tree);
}

/** A table of settings, as opposed to a list, a date or a plain value. */
export function isTable(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
