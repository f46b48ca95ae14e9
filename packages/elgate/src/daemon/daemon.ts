// The daemon: an engine, the routes of its configuration and those added since, and the control API.

import { formatListen } from '../config/listen.js';
import { checkReachable } from '../config/load.js';
import type { RouteConfig } from '../config/route-schema.js';
import { type Config, engineJson } from '../config/schema.js';
import { unknownRoute } from '../control/handlers.js';
import { HttpError } from '../control/respond.js';
import { ControlServer } from '../control/server.js';
import type { ControlSubject, ServedRoute } from '../control/subject.js';
import { ElgateError, type ElgateErrorCode, guardAsync } from '../errors.js';
import type { DrainOutcome, NativeEngine, RouteChanges } from '../native/binding.js';
import { binding } from '../native/load.js';
import { addedRoutesFile, type RouteTables, takeAddedRoutes, writeAddedRoutes } from './added-routes.js';
import { type Merged, mergeRoutes } from './merge.js';

/** What a reload did. */
export interface Reload {
  changes: RouteChanges;
  /** Settings that changed but only count from the next start. */
  needRestart: string[];
}

export class Daemon implements ControlSubject {
  config: Config;
  phase: ControlSubject['phase'] = 'starting';
  /** What whoever started it should know: about added routes that are not there. */
  readonly notices: string[] = [];
  readonly #control: ControlServer;
  /** As they are kept, those that do not fit the configuration included. */
  #added: RouteTables = {};
  /** What the engine was given. */
  #served: Record<string, RouteConfig> = {};
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
      daemon.#added = takeAddedRoutes(config.dataDir, (notice) => daemon.notices.push(notice));
      const { routes, leftOut } = mergeRoutes(config, daemon.#added);
      for (const [name, error] of leftOut) daemon.notices.push(daemon.#leftOut(name, error));
      daemon.#served = routes;
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
    return Object.entries(this.#served).map(([name, config]) => ({
      name,
      source: Object.hasOwn(this.config.routes, name) ? 'file' : 'api',
      config,
    }));
  }

  addRoute(name: string, settings: Record<string, unknown>): Promise<RouteChanges> {
    return this.#exclusively(async () => {
      this.#refuseConfigured(name);
      const { [name]: _, ...rest } = this.#added;
      return this.#applyAdded(name, { ...rest, [name]: settings });
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
      const merged = mergeRoutes(next, this.#added);
      // One that was left out before still may be; one that is in use is not taken away in passing.
      for (const [name, error] of merged.leftOut) if (Object.hasOwn(this.#served, name)) throw error;
      const changes = await this.#apply(merged);
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
    const merged = mergeRoutes(this.config, added);
    const misfit = merged.leftOut.get(name);
    if (misfit !== undefined) throw misfit;
    const changes = await this.#apply(merged);
    const failure = changes.failed.find((failure) => failure.name === name);
    if (failure !== undefined && Object.hasOwn(this.#added, name) && Object.hasOwn(added, name)) {
      throw new ElgateError(failure.code as ElgateErrorCode, failure.message);
    }
    writeAddedRoutes(this.config.dataDir, added);
    this.#added = added;
    return changes;
  }

  async #apply({ routes }: Merged): Promise<RouteChanges> {
    const engine = this.engine();
    const changes = JSON.parse(await guardAsync(() => engine.applyRoutes(JSON.stringify(routes)))) as RouteChanges;
    this.#served = routes;
    return changes;
  }

  #leftOut(name: string, { message }: ElgateError): string {
    const file = addedRoutesFile(this.config.dataDir);
    return (
      `${message}: the daemon runs without it, ${file} keeps it; change the configuration and reload, or ` +
      `\`elgate routes remove ${name}\``
    );
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
