// The routes of the configuration and those added at run time, as one set.

import type { Origin } from '../config/layers.js';
import { checkSinkPaths } from '../config/own-paths.js';
import { type RouteConfig, sharedFile } from '../config/route-schema.js';
import { type Config, parseRoutes, ROUTES_MAX } from '../config/schema.js';
import { ElgateError, toElgateError } from '../errors.js';
import type { RouteTables } from './added-routes.js';

export interface Merged {
  routes: Record<string, RouteConfig>;
  /** Added routes that are invalid or contradict another, and how. */
  leftOut: Map<string, ElgateError>;
}

/** The configuration's routes win over added ones of the same name; an added one that does not fit is left out. */
export function mergeRoutes(config: Config, added: RouteTables): Merged {
  const extra = Object.entries(added).filter(([name]) => !Object.hasOwn(config.routes, name));
  const all = Object.fromEntries(extra);
  try {
    return { routes: together(config, config.routes, all), leftOut: new Map() };
  } catch {
    // One by one below, to find out which.
  }
  let { routes } = config;
  const leftOut: Merged['leftOut'] = new Map();
  for (const [name, settings] of extra) {
    try {
      routes = together(config, routes, { [name]: settings });
    } catch (error) {
      leftOut.set(name, toElgateError(error));
    }
  }
  return { routes, leftOut };
}

/** Throws if they are not valid, or not together. */
function together(
  config: Config,
  routes: Record<string, RouteConfig>,
  extra: RouteTables,
): Record<string, RouteConfig> {
  const origin: Origin = (path) => (Object.hasOwn(config.routes, path[1] ?? '') ? config.origin(path) : 'added route');
  const all = { ...routes, ...parseRoutes(extra, origin, config.filesRoot) };
  const shared = sharedFile(all);
  if (shared !== undefined) {
    const key = ['routes', shared.name, 'path'];
    const what = `${shared.path} is already written by route ${shared.other}; give each route a file of its own`;
    throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${origin(key)}: ${key.join('.')}: ${what}`);
  }
  const total = Object.keys(all).length;
  if (total > ROUTES_MAX) {
    const what = `would be number ${total}; at most ${ROUTES_MAX} routes are possible`;
    throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `added route: routes: ${what}`);
  }
  checkSinkPaths(config, all, origin);
  return all;
}
