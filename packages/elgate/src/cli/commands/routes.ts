// `elgate routes`: look at the daemon's routes, and change them while it runs.

import { Command } from 'commander';
import type { RouteConfig } from '../../config/route-schema.js';
import { callControl } from '../../control/client.js';
import { ElgateError, type ElgateErrorCode } from '../../errors.js';
import type { RouteChanges } from '../../native/binding.js';
import { controlFor, routeName, type WhereOptions, withFlags } from '../locate.js';
import { count, parseWhole, print, printJson, table } from '../output.js';

interface Listed extends RouteConfig {
  name: string;
  source: string;
  state: string | null;
  durable_lsn: number;
  lag_records: number;
}

interface Removed {
  undelivered_records: number;
  log: string;
}

interface Options extends WhereOptions {
  json?: boolean;
}

export function routesCommand(): Command {
  const list = subcommand('list', 'all routes (what `elgate routes` does by itself)')
    .allowExcessArguments()
    .action(listRoutes);
  const remove = subcommand('remove', 'remove a route that was added; its log stays')
    .argument('<route>')
    .action(removeRoute);
  return new Command('routes')
    .description('list, add, remove, pause and resume routes of the running daemon')
    .addCommand(list, { isDefault: true })
    .addCommand(addCommand())
    .addCommand(remove)
    .addCommand(verb('pause', 'stop delivering; records are still taken', 'paused'))
    .addCommand(verb('resume', 'deliver again', 'resumed'))
    .addCommand(verb('flush', 'make everything appended durable', 'flushed'));
}

function subcommand(name: string, description: string): Command {
  const command = new Command(name).description(description).option('--json', 'as JSON');
  return withFlags(command, 'config', 'admin');
}

function verb(name: string, description: string, done: string): Command {
  return subcommand(name, description)
    .argument('<route>')
    .action((route: string, options: Options) => change('POST', route, `/${name}`, options, done));
}

function addCommand(): Command {
  return subcommand('add', 'add a route; it stays over restarts')
    .argument('<route>')
    .requiredOption('--sink <sink>', 'file, http or none')
    .option('--path <file>', 'file sink: the file to append to')
    .option('--framing <framing>', 'file sink: newline or none')
    .option('--url <url>', 'http sink: where to POST')
    .option('--content-type <type>', 'http sink: media type of the records')
    .option('--order <order>', 'route (one after the other) or none')
    .option('--concurrency <n>', 'deliveries at a time with --order none', parseWhole('--concurrency'))
    .option('--flush <mode>', 'auto, manual or none')
    .action(addRoute);
}

async function addRoute(name: string, options: Options & Record<string, unknown>): Promise<void> {
  const { sink, path, framing, url, contentType, order, concurrency, flush } = options;
  const settings = {
    name: routeName(name),
    sink,
    path,
    framing,
    url,
    content_type: contentType,
    order,
    concurrency,
    flush,
  };
  const answer = await callControl<{ changes: RouteChanges }>(controlFor(options), 'POST', '/routes', settings);
  const { added, changed, failed } = answer.changes;
  const done = added.includes(name) ? 'added' : changed.includes(name) ? 'changed' : 'unchanged';
  if (options.json) printJson(answer);
  else print(`${name}: ${done}`);
  const failure = failed.find((failure) => failure.name === name);
  if (failure !== undefined) throw new ElgateError(failure.code as ElgateErrorCode, failure.message);
}

async function removeRoute(name: string, options: Options): Promise<void> {
  const answer = await callControl<Removed>(controlFor(options), 'DELETE', `/routes/${routeName(name)}`);
  if (options.json) {
    printJson(answer);
    return;
  }
  const { undelivered_records: left, log } = answer;
  const kept =
    left > 0 ? `; ${count(left)} undelivered stay in ${log}, to be delivered once the route is added again` : '';
  print(`${name}: removed${kept}`);
}

async function change(method: string, name: string, suffix: string, options: Options, done: string): Promise<void> {
  const answer = await callControl(controlFor(options), method, `/routes/${routeName(name)}${suffix}`);
  if (options.json) printJson(answer);
  else print(`${name}: ${done}`);
}

async function listRoutes(options: Options, command: Command): Promise<void> {
  const [unknown] = command.args;
  if (unknown !== undefined) {
    throw new ElgateError('ERR_ELGATE_USAGE', `unknown command 'routes ${unknown}'; see \`elgate routes --help\``);
  }
  const { routes } = await callControl<{ routes: Listed[] }>(controlFor(options), 'GET', '/routes');
  if (options.json) {
    printJson({ routes });
    return;
  }
  if (routes.length === 0) {
    print('no routes: add one with `elgate routes add NAME --sink file --path FILE`');
    return;
  }
  const rows = routes.map((route) => [
    route.name,
    route.sink,
    route.state ?? '-',
    count(route.durable_lsn),
    count(route.lag_records),
    route.source,
    route.url ?? route.path ?? '-',
  ]);
  print(table(['ROUTE', 'SINK', 'STATE', 'DURABLE', 'LAG', 'FROM', 'TO'], rows));
}
