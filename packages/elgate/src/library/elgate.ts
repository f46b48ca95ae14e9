// The gate: one object for an embedded engine, a daemon, and the test stub.

import { join } from 'node:path';
import type { Override } from '../config/layers.js';
import { checkReachable, loadConfig } from '../config/load.js';
import { adminUrl, engineJson } from '../config/schema.js';
import { type ControlTarget, callControl } from '../control/client.js';
import { guardAsync } from '../errors.js';
import type { DrainOutcome, NativeClient, NativeEngine } from '../native/binding.js';
import { binding } from '../native/load.js';
import { embeddedConfig, refuseUnknownOptions } from './embedded.js';
import { durableFetch, type HttpRoutes } from './fetch.js';
import { Producer } from './producer.js';
import { Route } from './route.js';
import { tailLog } from './tail.js';
import type { CloseOptions, ConnectOptions, LogRecord, OpenOptions, TailOptions } from './types.js';

const CONNECT_OPTIONS = ['config', 'ring', 'admin', 'waitMs'] satisfies (keyof ConnectOptions)[];
const DRAIN_MS = 5000;
/** How long an exit waits for a gate that nobody closed. */
const EXIT_DRAIN_MS = 1000;

/** What differs between an engine in this process and a daemon. */
interface Backing {
  dataDir: string;
  flush(route: string): Promise<void>;
  routes(refresh: boolean): Promise<HttpRoutes>;
  close(drainMs: number): Promise<DrainOutcome>;
}

/**
 * A gate to Elgate.
 *
 * @example
 * const gate = await Elgate.open({ dataDir: 'data', routes: { orders: { sink: 'none' } } });
 * const { lsn } = await gate.route('orders').append('one coffee');
 * await gate.close();
 */
export class Elgate implements AsyncDisposable {
  readonly #producer: Producer;
  readonly #backing: Backing;
  readonly #routes = new Map<string, Route>();
  #closing: Promise<DrainOutcome> | undefined;

  private constructor(client: NativeClient, backing: Backing) {
    this.#producer = new Producer(client);
    this.#backing = backing;
  }

  /**
   * Starts an engine in this process. Everything acknowledged as durable is there, and goes on
   * being delivered, at the next `open` of the same directory.
   *
   * Rejects with `ERR_ELGATE_CONFIG_INVALID`, `ERR_ELGATE_IN_USE` (another engine has the
   * directory), `ERR_ELGATE_PERMISSION_DENIED`, `ERR_ELGATE_LOG_CORRUPT`.
   *
   * Close it: a gate left open is closed when the process has nothing else to do, but not on
   * `process.exit()`.
   */
  static async open(options: OpenOptions = {}): Promise<Elgate> {
    const { config, cleanUp } = embeddedConfig(options);
    let engine: NativeEngine | undefined;
    try {
      checkReachable(config);
      const native = binding();
      engine = await guardAsync(() => native.NativeEngine.open(engineJson(config)));
      const ring = engine.ringPath();
      const client = await guardAsync(() => native.NativeClient.connect(ring, 0));
      const gate = new Elgate(client, embeddedBacking(engine, config.dataDir, config.routes, cleanUp));
      openGates.add(gate);
      return gate;
    } catch (error) {
      await engine?.close(0);
      cleanUp();
      throw error;
    }
  }

  /**
   * Connects to the daemon through its ring. Finds it by `options`, else `ELGATE_*`, else
   * `elgate.toml` here, else the defaults. Rejects with `ERR_ELGATE_DAEMON_UNAVAILABLE`,
   * `ERR_ELGATE_RING_INCOMPATIBLE`, `ERR_ELGATE_PERMISSION_DENIED`, `ERR_ELGATE_TOO_MANY_PRODUCERS`.
   */
  static async connect(options: ConnectOptions = {}): Promise<Elgate> {
    refuseUnknownOptions('connect', options, CONNECT_OPTIONS);
    const overrides: Override[] = [
      { path: ['ring', 'path'], value: options.ring, from: 'ring' },
      { path: ['admin', 'listen'], value: options.admin, from: 'admin' },
    ];
    const config = loadConfig({ file: options.config, overrides });
    const client = await guardAsync(() => binding().NativeClient.connect(config.ring.path, options.waitMs ?? 0));
    const target = { url: adminUrl(config.admin), token: config.admin.token };
    return new Elgate(client, daemonBacking(client.dataDir(), target));
  }

  /** The route of this name. Whether it exists shows when something is appended. */
  route(name: string): Route {
    this.#producer.assertOpen(`route ${name}`);
    let route = this.#routes.get(name);
    if (route === undefined) {
      route = new Route(this.#producer, name, this.#backing.flush);
      this.#routes.set(name, route);
    }
    return route;
  }

  /**
   * Follows a route's log, from its own files: the daemon is not asked, and is not slowed down.
   * Only what is durable is seen. Leave the loop to stop.
   */
  tail(route: string, options: TailOptions = {}): AsyncGenerator<LogRecord> {
    this.#producer.assertOpen(`route ${route}`);
    this.#producer.lane(route);
    return tailLog(join(this.#backing.dataDir, route), `route ${route}`, options);
  }

  /**
   * A POST to the URL of an http route, made durable: resolves with status 202 and `Elgate-Op-Id`
   * once it is synced, and delivers it in the route's order. `Elgate-Level` is `durable`, or
   * `accepted` on a route that does not sync. Anything else rejects with `ERR_ELGATE_UNSUPPORTED`.
   */
  fetch(url: string | URL, init?: RequestInit): Promise<Response> {
    const routes = (refresh: boolean) => this.#backing.routes(refresh);
    return durableFetch({ route: (name) => this.route(name), routes }, url, init);
  }

  /**
   * Waits for what was appended, then lets go. An embedded engine also delivers what it can within
   * `drainMs`; the answer says what is left for the next `open`. Rejects, once closed, if a posted
   * record had been refused.
   */
  close(options: CloseOptions = {}): Promise<DrainOutcome> {
    this.#closing ??= this.#close(options.drainMs ?? DRAIN_MS);
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(drainMs: number): Promise<DrainOutcome> {
    openGates.delete(this);
    this.#producer.refuse();
    try {
      await this.#producer.idle(drainMs);
      return await guardAsync(() => this.#backing.close(drainMs));
    } finally {
      this.#producer.close();
      this.#producer.reportFailure();
    }
  }
}

function embeddedBacking(engine: NativeEngine, dataDir: string, routes: HttpRoutes, cleanUp: () => void): Backing {
  return {
    dataDir,
    flush: (route) => engine.flush(route),
    routes: async () => routes,
    async close(drainMs) {
      const outcome = JSON.parse(await engine.close(drainMs)) as DrainOutcome;
      cleanUp();
      return outcome;
    },
  };
}

function daemonBacking(dataDir: string, target: ControlTarget): Backing {
  let known: Promise<HttpRoutes> | undefined;
  return {
    dataDir,
    async flush(route) {
      await callControl(target, 'POST', `/routes/${route}/flush`);
    },
    routes(refresh) {
      if (refresh || known === undefined) known = routesOf(target);
      return known;
    },
    close: async () => ({ drained: true, undelivered: {} }),
  };
}

async function routesOf(target: ControlTarget): Promise<HttpRoutes> {
  const { routes } = await callControl<{ routes: (HttpRoutes[string] & { name: string })[] }>(target, 'GET', '/routes');
  return Object.fromEntries(routes.map((route) => [route.name, route]));
}

/** Embedded gates that nobody has closed: closed when the process has nothing else to do. */
const openGates = new Set<Elgate>();
process.on('beforeExit', () => {
  for (const gate of openGates) gate.close({ drainMs: EXIT_DRAIN_MS }).catch(() => {});
});
