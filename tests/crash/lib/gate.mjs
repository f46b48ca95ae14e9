// A data directory, a ring, an admin address and routes of a sandbox's own, and the daemon that serves them.

import fs from 'node:fs';
import path from 'node:path';
import { Daemon } from './daemon.mjs';
import { readHead } from './head-file.mjs';
import { freePort } from './sandbox.mjs';
import { until } from './wait.mjs';

const DRAIN_MS = 60_000;

/**
 * `routes` is { name: { sink, … } } as in elgate.toml; values are strings, numbers or inline tables. Logs and outputs are
 * below `directory`. The result has `dataDir`, `config`, `admin`, `daemon`, and `head(route)`.
 */
export async function makeGate(
  sandbox,
  { routes, env, prefix, args, directory = sandbox.dir, retry = { initial_ms: 2, max_ms: 50, max_attempts: 0 } },
) {
  const gate = {
    dataDir: path.join(directory, 'data'),
    out: path.join(directory, 'out'),
    ring: sandbox.ring,
    admin: `127.0.0.1:${await freePort()}`,
    head: (route) => readHead(gate.dataDir, route),
    durable: (route) => gate.head(route)?.durable ?? 0,
    env: { ELGATE_RING: sandbox.ring },
  };
  const sections = Object.entries(routes).map(([name, settings]) => {
    const all = settings.sink === 'http' ? { retry, ...settings } : settings;
    return [`[routes.${name}]`, ...Object.entries(all).map(([key, value]) => `${key} = ${toml(value)}`)].join('\n');
  });
  const text = `data_dir = ${toml(gate.dataDir)}
[ring]
path = ${toml(sandbox.ring)}
[admin]
listen = ${toml(gate.admin)}
[files]
root = ${toml(gate.out)}
${sections.join('\n')}
`;
  fs.mkdirSync(gate.out);
  gate.config = sandbox.write('elgate.toml', text);
  gate.daemon = new Daemon(sandbox, { config: gate.config, admin: gate.admin, env, prefix, args });
  gate.outputOf = (route) => path.join(gate.out, routes[route].path);

  /** Waits until the sinks have carried out everything that is durable. */
  gate.drained = (names = Object.keys(routes), timeoutMs = DRAIN_MS) =>
    until(
      `routes ${names.join(', ')} to be delivered up to their durable LSN`,
      () =>
        names.every((name) => {
          const head = gate.head(name);
          return head !== undefined && head.delivered >= head.durable;
        }),
      { timeoutMs, everyMs: 5, abort: () => gate.daemon.deathReason() },
    ).catch(async (error) => {
      const status = await gate.daemon.status().catch((reason) => ({ routes: reason.message }));
      throw new Error(`${error.message}; the daemon says: ${JSON.stringify(status.routes)}`);
    });
  return gate;
}

export function toml(value) {
  if (typeof value === 'object') {
    return `{ ${Object.entries(value)
      .map(([key, inner]) => `${key} = ${toml(inner)}`)
      .join(', ')} }`;
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
