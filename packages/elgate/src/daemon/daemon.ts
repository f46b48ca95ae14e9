// The daemon: an engine, the routes of its configuration and those added since, and the control API.

import type { Layers } from '../config/layers.js';
import { formatListen } from '../config/listen.js';
import { checkReachable } from '../config/load.js';
import { type RouteConfig, sharedFile } from '../config/route-schema.js';
import { type Config, engineJson, parseRoutes } from '../config/schema.js';
import { unknownRoute } from '../control/handlers.js';
import { HttpError } from '../control/respond.js';
import { ControlServer } from '../control/server.js';
import type { ControlSubject, ServedRoute } from '../control/subject.js';
import { ElgateError, type ElgateErrorCode, guardAsync } from '../errors.js';
import type { DrainOutcome, NativeEngine, RouteChanges } from '../native/binding.js';
import { binding } from '../native/load.js';
import { type RouteTables, readAddedRoutes, writeAddedRoutes } from './added-routes.js';

/** What a reload did. */
export interface Reload {
  changes: RouteChanges;
  /** Settings that changed but only count from the next start. */
  needRestart: string[];
}

export class Daemon implements ControlSubject {
  config: Config;
  phase: ControlSubject['phase'] = 'starting';
  readonly #control: ControlServer;
  #added: RouteTables = {};
  #engine: NativeEngine | undefined;
  /** Changes of routes happen one after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  /** As configured: port 0 lets the system choose. */
  readonly #listen: string;

  private constructor(config: Config) {
    this.config = config;
    this.#listen = formatListen(config.admin);
    this.#control = new ControlServer(this);
  }

  /**
   * Starts everything, or nothing. The address is taken first: whoever asks is told "not ready"
   * while logs recover.
   */
  static async start(config: Config): Promise<Daemon> {
    checkReachable(config);
    binding();
    const daemon = new Daemon(config);
    config.admin.port = await daemon.#control.listen();
    try {
      daemon.#added = readAddedRoutes(config.dataDir);
      const routes = daemon.#merge(config, daemon.#added);
      daemon.#engine = await guardAsync(() => binding().NativeEngine.open(engineJson({ ...config, routes })));
    } catch (error) {
      await daemon.#control.close();
      throw error;
    }
    daemon.phase = 'running';
    return daemon;
  }

  engine(): NativeEngine {
    if (this.#engine !== undefined) return this.#engine;
    throw new ElgateError('ERR_ELGATE_DAEMON_UNAVAILABLE', `the daemon is ${this.phase}; try again in a moment`);
  }

  routes(): ServedRoute[] {
    return Object.entries(this.#merge(this.config, this.#added)).map(([name, config]) => ({
      name,
      source: Object.hasOwn(this.config.routes, name) ? 'file' : 'api',
      config,
    }));
  }

  addRoute(name: string, settings: Record<string, unknown>): Promise<RouteChanges> {
    return this.#exclusively(async () => {
      this.#refuseConfigured(name);
      return this.#applyAdded(name, { ...this.#added, [name]: settings });
    });
  }

  removeRoute(name: string): Promise<RouteChanges> {
    return this.#exclusively(async () => {
      this.#refuseConfigured(name);
      if (!Object.hasOwn(this.#added, name)) throw unknownRoute(this, name);
      const { [name]: _, ...rest } = this.#added;
      return this.#applyAdded(name, rest);
    });
  }

  /** Takes over the routes of a new configuration. If that is invalid, everything stays as it was. */
  reload(load: () => Config): Promise<Reload> {
    return this.#exclusively(async () => {
      const next = load();
      const changes = await this.#apply(this.#merge(next, this.#added));
      const needRestart = restartSettings(
        { ...this.config, listen: this.#listen },
        { ...next, listen: formatListen(next.admin) },
      );
      this.config = { ...this.config, file: next.file, routes: next.routes, origin: next.origin, given: next.given };
      return { changes, needRestart };
    });
  }

  /** Stops taking records, delivers what it can within `drainMs`, and ends. */
  async stop(drainMs: number): Promise<DrainOutcome> {
    this.phase = 'draining';
    await this.#changing.catch(() => {});
    try {
      return JSON.parse(await guardAsync(() => this.engine().close(drainMs))) as DrainOutcome;
    } finally {
      await this.#control.close();
    }
  }

  #refuseConfigured(name: string): void {
    if (!Object.hasOwn(this.config.routes, name)) return;
    const where = this.config.origin(['routes', name]);
    throw new HttpError(
      409,
      'ERR_ELGATE_IN_USE',
      `route ${name} is in the configuration (${where}): change it there and reload with SIGHUP`,
    );
  }

  /** Refused if the route goes on as it was. A new one that cannot be opened yet is kept, and tried again. */
  async #applyAdded(name: string, added: RouteTables): Promise<RouteChanges> {
    const changes = await this.#apply(this.#merge(this.config, added));
    const failure = changes.failed.find((failure) => failure.name === name);
    if (failure !== undefined && Object.hasOwn(this.#added, name) && Object.hasOwn(added, name)) {
      throw new ElgateError(failure.code as ElgateErrorCode, failure.message);
    }
    writeAddedRoutes(this.config.dataDir, added);
    this.#added = added;
    return changes;
  }

  async #apply(routes: Record<string, RouteConfig>): Promise<RouteChanges> {
    const engine = this.engine();
    return JSON.parse(await guardAsync(() => engine.applyRoutes(JSON.stringify(routes)))) as RouteChanges;
  }

  /** The file's routes and the added ones, checked together; the file's win. */
  #merge(config: Config, added: RouteTables): Record<string, RouteConfig> {
    const extra = Object.fromEntries(Object.entries(added).filter(([name]) => !Object.hasOwn(config.routes, name)));
    const origin: Layers['origin'] = () => 'added route';
    const routes = { ...config.routes, ...parseRoutes(extra, origin, config.filesRoot) };
    const shared = sharedFile(routes);
    if (shared !== undefined) {
      const what = `${shared.path} is already written by route ${shared.other}; give each route a file of its own`;
      throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `routes.${shared.name}.path: ${what}`);
    }
    return routes;
  }

  #exclusively<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(change, change);
    this.#changing = result.catch(() => {});
    return result;
  }
}

interface Listening extends Config {
  listen: string;
}

function restartSettings(now: Listening, next: Listening): string[] {
  const settings: [string, unknown, unknown][] = [
    ['data_dir', now.dataDir, next.dataDir],
    ['ring.path', now.ring.path, next.ring.path],
    ['admin.listen', now.listen, next.listen],
    ['admin.token', now.admin.token, next.admin.token],
    ['runtime', JSON.stringify(now.runtime), JSON.stringify(next.runtime)],
    ['files.root', now.filesRoot, next.filesRoot],
  ];
  return settings.filter(([, before, after]) => before !== after).map(([name]) => name);
}
