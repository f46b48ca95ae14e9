// `elgate serve`: the daemon in the foreground.

import { Command } from 'commander';
import { isLoopback } from '../../config/listen.js';
import { checkReachable, chosenDefaults } from '../../config/load.js';
import { adminUrl, MODES } from '../../config/schema.js';
import { buildInfo, engineStatus } from '../../control/handlers.js';
import { Daemon } from '../../daemon/daemon.js';
import { toElgateError } from '../../errors.js';
import type { RouteFailure } from '../../native/binding.js';
import { configFor, type WhereOptions, withFlags } from '../locate.js';
import { bytes, count, oneLine, parseSeconds, print } from '../output.js';
import { RouteWatch } from '../route-watch.js';

/** How often the routes are looked at. */
const WATCH_MS = 1_000;

interface ServeOptions extends WhereOptions {
  drainTimeout: number;
}

export function serveCommand(): Command {
  const command = new Command('serve')
    .description('run the daemon: take records from every process on this machine, and carry them out')
    .option('--mode <mode>', `how to use the machine: ${MODES.join(', ')}`)
    .option('--drain-timeout <seconds>', 'how long a stop waits for deliveries', parseSeconds('--drain-timeout'), 10)
    .action(serve);
  return withFlags(command, 'config', 'dataDir', 'ring', 'admin');
}

async function serve(options: ServeOptions): Promise<void> {
  const config = configFor(options);
  let daemon: Daemon | undefined;
  // From the very beginning: without a listener this signal would end the process.
  process.on('SIGHUP', () => {
    if (daemon !== undefined) void reload(daemon, options);
  });
  daemon = await Daemon.start(config);
  const end = stopped(daemon, options.drainTimeout * 1000);
  announce(daemon);
  watch(daemon);
  await end;
}

/** Tells what becomes of the routes, until the daemon stops. */
function watch(daemon: Daemon): void {
  const routes = new RouteWatch();
  let trouble = '';
  const look = () => {
    if (daemon.phase !== 'running') {
      clearInterval(timer);
      return;
    }
    try {
      for (const line of routes.changes(engineStatus(daemon).routes)) process.stderr.write(`elgate: ${line}\n`);
      trouble = '';
    } catch (error) {
      const { code, message } = toElgateError(error);
      if (message !== trouble) process.stderr.write(`elgate: no status: ${oneLine(message)} [${code}]\n`);
      trouble = message;
    }
  };
  const timer = setInterval(look, WATCH_MS);
  look();
}

/** Resolves once a first signal has been served. A second one ends the process at once. */
function stopped(daemon: Daemon, drainMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let stopping = false;
    const onSignal = (signal: 'SIGINT' | 'SIGTERM') => {
      if (stopping) process.exit(signal === 'SIGINT' ? 130 : 143);
      stopping = true;
      print(`${signal}: taking nothing new, delivering what is there (again to stop at once)`);
      drain(daemon, drainMs).then(resolve, reject);
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}

async function drain(daemon: Daemon, drainMs: number): Promise<void> {
  const { drained, undelivered } = await daemon.stop(drainMs);
  const left = Object.entries(undelivered).filter(([, records]) => records > 0);
  if (drained || left.length === 0) {
    print('stopped; everything is delivered');
    return;
  }
  const list = left.map(([route, records]) => `${route} ${count(records)}`).join(', ');
  print(`stopped; durable, and delivered after the next start: ${list}`);
}

async function reload(daemon: Daemon, options: ServeOptions): Promise<void> {
  try {
    const { changes, needRestart } = await daemon.reload(() => {
      // The file in use, also where it was searched for: while it is away, another or none would take its place.
      const { file } = daemon.config;
      const next = configFor(file === null ? options : { ...options, config: file });
      checkReachable(next);
      return next;
    });
    const list = (['added', 'removed', 'changed'] as const)
      .filter((kind) => changes[kind].length > 0)
      .map((kind) => `${kind} ${changes[kind].join(', ')}`);
    print(`reloaded: ${list.length > 0 ? list.join('; ') : 'no route changed'}`);
    // Of one that was added the watch tells, as it does when it goes well.
    changes.failed.filter(({ name }) => !changes.added.includes(name)).forEach(tellFailure);
    if (needRestart.length > 0) print(`only from the next start: ${needRestart.join(', ')}`);
  } catch (error) {
    const { code, message } = toElgateError(error);
    process.stderr.write(`elgate: not reloaded, the running configuration stays: ${oneLine(message)} [${code}]\n`);
  }
}

function tellFailure({ name, code, message }: RouteFailure): void {
  process.stderr.write(`elgate: route ${name}: ${oneLine(message)} [${code}]\n`);
}

function announce(daemon: Daemon): void {
  const { config } = daemon;
  const status = engineStatus(daemon);
  const backends = [...new Set(status.shards.map((shard) => shard.backend))].join(', ');
  const memory = status.memory.reduce((sum, part) => sum + part.bytes, 0);
  const build = buildInfo();
  print(`elgate ${build.version} (${build.sha}) is serving`);
  const defaults = chosenDefaults(config);
  if (config.file !== null) print(`  config   ${config.file}`);
  else print('  config   none');
  print(
    `  mode     ${status.mode}, shards: ${status.shards.length}, cores: ${status.cores}, backend ${backends}, ${bytes(memory)} of memory`,
  );
  print(`  ring     ${daemon.engine().ringPath()}`);
  print(`  data     ${config.dataDir}`);
  const open = isLoopback(config.admin.host) ? '' : ' and from other machines';
  print(`  control  ${adminUrl(config.admin)}${open}`);
  if (defaults.length > 0) print(`  by default: ${defaults.join('; ')}`);
  const routes = daemon.routes();
  if (routes.length === 0) print('  no routes yet: add one with `npx elgate routes add NAME --sink file --path FILE`');
  for (const { name, source, config: route } of routes) {
    const to = route.url ?? route.path ?? 'its log only';
    print(`  route    ${name}: ${route.sink} ${to}${source === 'api' ? ' (added at run time)' : ''}`);
  }
  for (const notice of daemon.notices) process.stderr.write(`elgate: ${oneLine(notice)}\n`);
}
