// What the control API controls: the daemon, as the API sees it.

import type { RouteConfig } from '../config/route-schema.js';
import type { Config } from '../config/schema.js';
import type { NativeEngine, RouteChanges } from '../native/binding.js';

export interface ServedRoute {
  name: string;
  /** `file`: the configuration file; `api`: added at run time, kept in the data directory. */
  source: 'file' | 'api';
  config: RouteConfig;
}

export interface ControlSubject {
  readonly config: Config;
  readonly phase: 'starting' | 'running' | 'draining';
  /** Throws `ERR_ELGATE_DAEMON_UNAVAILABLE` while there is none. */
  engine(): NativeEngine;
  routes(): ServedRoute[];
  /** Adds a route, or changes one that was added. Settings as in the file. Survives a restart. */
  addRoute(name: string, settings: Record<string, unknown>): Promise<RouteChanges>;
  /** Removes a route that was added. Its log stays. */
  removeRoute(name: string): Promise<RouteChanges>;
}
