// How a command finds the daemon and its files: flags, else ELGATE_*, else the configuration file,
// else the defaults.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { loadConfig } from '../config/load.js';
import { adminUrl, type Config, isRouteName, looksLikePath, ROUTE_NAME_RULE } from '../config/schema.js';
import type { ControlTarget } from '../control/client.js';
import { ElgateError, guardAsync } from '../errors.js';
import { binding } from '../native/load.js';

export interface WhereOptions {
  config?: string;
  dataDir?: string;
  ring?: string;
  admin?: string;
  mode?: string;
}

const FLAGS = {
  config: ['--config <file>', 'configuration file (default: elgate.toml here, if there is one)'],
  dataDir: ['--data-dir <dir>', 'where logs are'],
  ring: ['--ring <path>', 'path of the shared-memory ring'],
  admin: ['--admin <host:port>', 'address of the control API'],
} as const;

/** Adds the flags by which a command finds things. */
export function withFlags(command: Command, ...names: (keyof typeof FLAGS)[]): Command {
  for (const name of names) command.option(FLAGS[name][0], FLAGS[name][1]);
  return command;
}

/** The configuration as this command line sees it. */
export function configFor(options: WhereOptions): Config {
  return loadConfig({
    file: options.config,
    overrides: [
      { path: ['data_dir'], value: options.dataDir, from: '--data-dir' },
      { path: ['ring', 'path'], value: options.ring, from: '--ring' },
      { path: ['admin', 'listen'], value: options.admin, from: '--admin' },
      { path: ['runtime', 'mode'], value: options.mode, from: '--mode' },
    ],
  });
}

/** The daemon's control API. */
export function controlFor(options: WhereOptions): ControlTarget {
  const { admin } = configFor(options);
  return { url: adminUrl(admin), token: admin.token };
}

/** `name`, if it can be a route's. */
export function routeName(name: string): string {
  if (isRouteName(name)) return name;
  throw new ElgateError(
    'ERR_ELGATE_ROUTE_NAME_INVALID',
    `${JSON.stringify(name)} is not a route name: ${ROUTE_NAME_RULE}`,
  );
}

/** The directory of a log, given as a path or as a route of the data directory. */
export async function logDirectory(target: string, options: WhereOptions): Promise<string> {
  const path = resolve(target);
  if (looksLikePath(target)) {
    if (existsSync(path)) return checkedLog(path);
    throw new ElgateError('ERR_ELGATE_IO', `${path} does not exist: name a route, or the directory of a log`);
  }
  const dataDir = await dataDirectory(options);
  const directory = join(dataDir, routeName(target));
  if (existsSync(directory)) return directory;
  if (existsSync(path)) return checkedLog(path);
  throw new ElgateError(
    'ERR_ELGATE_ROUTE_UNKNOWN',
    `route ${target} has no log in ${dataDir}: correct the name, or name the data directory with --data-dir or --config`,
  );
}

/** `path`, unless it is plainly not the directory of a log: a file, or the directory above logs. */
function checkedLog(path: string): string {
  if (!statSync(path).isDirectory()) {
    throw new ElgateError('ERR_ELGATE_IO', `${path} is a file: name the directory of the log, ${dirname(path)}`);
  }
  const logs = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && isRouteName(entry.name) && holdsSegments(join(path, entry.name)))
    .map(({ name }) => name);
  if (logs.length === 0 || holdsSegments(path)) return path;
  throw new ElgateError(
    'ERR_ELGATE_ROUTE_UNKNOWN',
    `${path} holds several logs: name one of them, such as ${join(path, logs[0] as string)}; there are: ${logs.slice(0, 20).join(', ')}`,
  );
}

/** Whether a directory holds segments of the log of `name`. */
export function holdsSegments(directory: string, route = basename(directory)): boolean {
  try {
    return readdirSync(directory).some((name) => name.endsWith('.wal') && name.startsWith(route));
  } catch {
    return false;
  }
}

/** The configured data directory; if nobody configured one, that of the running daemon. */
export async function dataDirectory(options: WhereOptions): Promise<string> {
  const config = configFor(options);
  if (config.given(['data_dir'])) return config.dataDir;
  try {
    const client = await guardAsync(() => binding().NativeClient.connect(config.ring.path, 0));
    const directory = client.dataDir();
    client.close();
    return directory;
  } catch (error) {
    // Without a daemon, and reading offline is allowed, the default is as good a place as any.
    if ((error as ElgateError).code === 'ERR_ELGATE_DAEMON_UNAVAILABLE') return config.dataDir;
    throw error;
  }
}
