// The whole configuration: from a tree of settings to a complete `Config`, or one error.

import { dirname, isAbsolute, resolve } from 'node:path';
import { ElgateError } from '../errors.js';
import type { KeyPath } from './document.js';
import type { Layers, Origin } from './layers.js';
import { formatListen, parseListen } from './listen.js';
import { parseRoute, type RouteConfig, sharedFile } from './route-schema.js';
import { Section } from './section.js';

export const MODES = ['auto', 'single-thread', 'pinned-sharded', 'forced-single', 'test-stub'] as const;
export const BACKENDS = ['auto', 'uring', 'poll'] as const;
export const COMMITS = ['auto', 'dsync', 'link', 'blocking'] as const;
export const SWITCH = ['auto', 'on', 'off'] as const;
export type Mode = (typeof MODES)[number];
export type Backend = (typeof BACKENDS)[number];

/** A complete configuration. Paths are absolute. */
export interface Config {
  /** The file it came from. */
  file: string | null;
  dataDir: string;
  ring: { path: string; removeOnClose: boolean };
  admin: AdminConfig;
  runtime: RuntimeConfig;
  filesRoot: string;
  routes: Record<string, RouteConfig>;
  /** Where the value at a path came from. */
  origin: Origin;
  /** Whether anybody set the value at a path. */
  given(path: KeyPath): boolean;
}

export interface RuntimeConfig {
  mode: Mode;
  shards: number;
  pin: boolean;
  backend: Backend;
  spin_us: number;
  commit: (typeof COMMITS)[number];
  sqpoll: (typeof SWITCH)[number];
  huge_pages_mb: number;
}

export interface AdminConfig {
  host: string;
  port: number;
  token: string | null;
  /** Names, beside addresses and `localhost`, by which clients may address the listener. */
  hosts: string[];
}

const ROUTE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
export const ROUTES_MAX = 1024;

/** Whether `name` may name a route. */
export function isRouteName(name: string): boolean {
  return ROUTE_NAME.test(name);
}

/** What a route name must look like, for messages. */
export const ROUTE_NAME_RULE = "use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit";

/** Checks `layers`. Relative paths of the file count from its directory, others from `cwd`. */
export function parseConfig(layers: Layers, file: string | null, cwd: string): Config {
  const top: Section = new Section(layers.tree, [], layers.origin, [
    'data_dir',
    'ring',
    'admin',
    'runtime',
    'files',
    'routes',
  ]);
  const home = file === null ? cwd : dirname(resolve(cwd, file));
  const absolute = (path: KeyPath, value: string) => resolve(layers.overridden(path) ? cwd : home, value);

  const files = top.section('files', ['root']);
  const filesRoot = absolute(['files', 'root'], files.string('root') ?? home);
  const ring = top.section('ring', ['path']);
  return {
    file,
    dataDir: absolute(['data_dir'], top.string('data_dir') ?? resolve(home, 'elgate-data')),
    ring: { path: absolute(['ring', 'path'], ring.string('path') ?? '/dev/shm/elgate_ring'), removeOnClose: false },
    admin: admin(top),
    runtime: runtime(top),
    filesRoot,
    routes: parseRoutes(top.table('routes'), layers.origin, filesRoot),
    origin: layers.origin,
    given: layers.given,
  };
}

function admin(top: Section): AdminConfig {
  const section: Section = top.section('admin', ['listen', 'token', 'hosts']);
  const listen = section.string('listen') ?? '127.0.0.1:7070';
  const parsed = parseListen(listen);
  if (parsed === undefined) {
    section.fail('listen', `${JSON.stringify(listen)} is not HOST:PORT; for example "127.0.0.1:7070" or "[::1]:7070"`);
  }
  const token = section.string('token') ?? null;
  if (token !== null && !/^[\x21-\x7e]{8,}$/.test(token)) {
    section.fail('token', 'must be at least 8 printable characters without spaces');
  }
  return { ...parsed, token, hosts: section.strings('hosts') };
}

function runtime(top: Section): RuntimeConfig {
  const section: Section = top.section('runtime', [
    'mode',
    'shards',
    'pin',
    'backend',
    'spin_us',
    'commit',
    'sqpoll',
    'huge_pages_mb',
  ]);
  const mode = section.oneOf('mode', MODES) ?? 'auto';
  const shards = section.integer('shards', 0, { min: 0, max: 64 });
  if (shards > 1 && (mode === 'single-thread' || mode === 'forced-single')) {
    section.fail('shards', `contradicts mode = "${mode}" (one shard); remove it, or set mode = "pinned-sharded"`);
  }
  return {
    mode,
    shards,
    pin: section.boolean('pin', true),
    backend: section.oneOf('backend', BACKENDS) ?? 'auto',
    spin_us: section.integer('spin_us', 20, { min: 0, max: 1_000_000 }),
    commit: section.oneOf('commit', COMMITS) ?? 'auto',
    sqpoll: section.oneOf('sqpoll', SWITCH) ?? 'auto',
    huge_pages_mb: section.integer('huge_pages_mb', 0, { min: 0, max: 16_384 }),
  };
}

/** Checks a table of routes, together: no two may write the same file. */
export function parseRoutes(
  table: Record<string, unknown>,
  origin: Origin,
  filesRoot: string,
): Record<string, RouteConfig> {
  const names = Object.keys(table);
  const top: Section = new Section({ routes: table }, [], origin, ['routes']);
  const section: Section = top.section('routes', names);
  if (names.length > ROUTES_MAX) top.fail('routes', `holds ${names.length} routes; at most ${ROUTES_MAX} are possible`);
  const routes: Record<string, RouteConfig> = {};
  for (const name of names) {
    if (!isRouteName(name)) section.fail(name, `is not a route name; ${ROUTE_NAME_RULE}`);
    routes[name] = parseRoute(section.table(name), ['routes', name], origin, filesRoot);
  }
  const shared = sharedFile(routes);
  if (shared !== undefined) {
    const path = ['routes', shared.name, 'path'];
    const what = `is already written by route ${shared.other}; give each route a file of its own`;
    throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${origin(path)}: ${path.join('.')}: ${what}`);
  }
  return routes;
}

/** The control API's base URL. */
export function adminUrl({ host, port }: Pick<AdminConfig, 'host' | 'port'>): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${formatListen({ host: reachable, port })}`;
}

/** The configuration in the form in which the engine takes it. */
export function engineJson(config: Config): string {
  return JSON.stringify({
    data_dir: config.dataDir,
    ring: { path: config.ring.path, remove_on_close: config.ring.removeOnClose },
    runtime: config.runtime,
    files: { root: config.filesRoot },
    routes: config.routes,
  });
}

/** Whether `path` can only mean a path, not a name. */
export function looksLikePath(text: string): boolean {
  return isAbsolute(text) || text.includes('/') || text === '.' || text === '..';
}
