// `elgate fsck`: checks logs to the last byte, and repairs them.

import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { isTable } from '../../config/layers.js';
import { isRouteName } from '../../config/schema.js';
import { readAddedRoutes } from '../../daemon/added-routes.js';
import { ElgateError, guardAsync, messageOf, toElgateError } from '../../errors.js';
import type { FsckFinding, FsckReport } from '../../native/binding.js';
import { binding } from '../../native/load.js';
import { configFor, dataDirectory, holdsSegments, logDirectory, type WhereOptions, withFlags } from '../locate.js';
import { bytes, count, oneLine, print, printJson } from '../output.js';

/** As `fsck` has them; several together are added up. */
export const FSCK_EXIT = { repaired: 1, left: 4, failed: 8, usage: 16 } as const;

/** How often to say how far it has come. */
const PROGRESS_MS = 2_000;

const HELP = `
Without ROUTE, every log of the data directory is checked. A check changes nothing, and may run beside the
daemon. A repair needs the daemon stopped; whatever it replaces is kept in the log's quarantine folder.

Exit codes, added up: 0 all is well, 1 errors were repaired, 4 errors are left, 8 a log could not be checked,
16 wrong usage.`;

interface Options extends WhereOptions {
  repair?: boolean;
  mirror?: string;
  json?: boolean;
}

type Result = { directory: string; mirror: string | null } & (
  | FsckReport
  | { error: { code: string; message: string } }
);

export function fsckCommand(): Command {
  const command = new Command('fsck')
    .description('check every byte of logs, and repair what can be repaired')
    .argument('[route|path...]', 'routes, or directories of logs (default: all)')
    .option('--repair', 'set right what can be; without it nothing is changed')
    .option('--mirror <dir>', 'copies of the logs, DIR/ROUTE; either copy repairs the other (default: as configured)')
    .option('--json', 'as one JSON object')
    .addHelpText('after', HELP)
    .action(async (targets: string[], options: Options) => {
      const results: Result[] = [];
      const directories = await logDirectories(targets, options);
      for (const directory of directories) {
        const result = await check(directory, mirrorOf(directory, options, directories.length), options);
        results.push(result);
        if (!options.json) report(result, options);
      }
      const code = results.reduce((codes, result) => codes | exitCode(result), 0);
      if (options.json) printJson({ repair: options.repair ?? false, exit_code: code, logs: results });
      process.exitCode = code;
    });
  return withFlags(command, 'config', 'dataDir', 'ring');
}

/** The directories of the logs that were asked for, and what stands where one would be. */
async function logDirectories(targets: readonly string[], options: Options): Promise<string[]> {
  if (targets.length > 0) {
    const directories: string[] = [];
    for (const target of targets) {
      const inDataDir = isRouteName(target) ? join(await dataDirectory(options), target) : target;
      const stands = obstacleAt(inDataDir) !== undefined;
      directories.push(stands ? resolve(inDataDir) : await logDirectory(target, options));
    }
    return [...new Set(directories)];
  }
  const dataDir = await dataDirectory(options);
  if (!existsSync(dataDir) || !statSync(dataDir).isDirectory()) {
    throw new ElgateError('ERR_ELGATE_IO', `${dataDir} is not a directory: name the data directory with --data-dir`);
  }
  const isRoute = routesOf(dataDir, options);
  const logs = readdirSync(dataDir)
    .filter(isRouteName)
    .map((name) => join(dataDir, name))
    .filter((path) => {
      const obstacle = obstacleAt(path);
      if (obstacle !== undefined) return obstacle.isLink || isRoute(basename(path));
      return holdsSegments(path) || existsSync(join(path, 'head'));
    })
    .sort();
  if (logs.length > 0) return logs;
  throw new ElgateError(
    'ERR_ELGATE_ROUTE_UNKNOWN',
    `${dataDir} holds no logs: name the data directory with --data-dir or --config, or the directory of a log`,
  );
}

/** What stands where the directory of a log would be. */
function obstacleAt(path: string): { what: string; isLink: boolean } | undefined {
  const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink();
  if (isLink === undefined) return undefined;
  const target = statSync(path, { throwIfNoEntry: false });
  if (target === undefined) return { what: 'a link that leads nowhere', isLink };
  return target.isDirectory() ? undefined : { what: 'no directory', isLink };
}

/** Whether a name is a route's. Where no routes are known: whether it looks more like one than like a file's. */
function routesOf(dataDir: string, options: Options): (name: string) => boolean {
  const config = configFor(options);
  const known = config.dataDir === dataDir ? Object.keys(config.routes) : [];
  try {
    known.push(...Object.keys(readAddedRoutes(dataDir)));
  } catch (thrown) {
    warn(`${dataDir}: ${messageOf(thrown)}`);
  }
  return (name) => (known.length === 0 ? !name.includes('.') : known.includes(name));
}

/**
 * Where the copy of a log is: below the mirror by the log's name, or, for one log, the mirror itself. Without
 * --mirror: where the log's route has it.
 */
function mirrorOf(directory: string, options: Options, logs: number): string | null {
  const name = basename(directory);
  if (options.mirror === undefined) {
    const root = configuredMirror(directory, name, options);
    if (root === undefined || existsSync(join(root, name))) return root === undefined ? null : join(root, name);
    warn(`${name}: its mirror ${join(root, name)} is not there: checked without; is its device mounted?`);
    return null;
  }
  const root = resolve(options.mirror);
  const below = join(root, name);
  return logs === 1 && !existsSync(below) && holdsSegments(root, name) ? root : below;
}

/** The mirror that the route of a log in the configured data directory has; a copied log is not its route's. */
function configuredMirror(directory: string, name: string, options: Options): string | undefined {
  const { dataDir, routes } = configFor(options);
  if (dirname(directory) !== dataDir) return undefined;
  if (routes[name] !== undefined) return routes[name].mirror;
  try {
    const added = readAddedRoutes(dataDir)[name];
    return isTable(added) && typeof added.mirror === 'string' ? added.mirror : undefined;
  } catch (thrown) {
    warn(`${name}: checked without a mirror: ${messageOf(thrown)}`);
    return undefined;
  }
}

function warn(text: string): void {
  process.stderr.write(`elgate: ${oneLine(text)}\n`);
}

async function check(directory: string, mirror: string | null, options: Options): Promise<Result> {
  const name = basename(directory);
  const obstacle = obstacleAt(directory);
  if (obstacle !== undefined) {
    const advice = 'move it away, or bring back what it leads to: until then the route is failed';
    const error = {
      code: 'ERR_ELGATE_IO',
      message: `${directory} is ${obstacle.what} where a log would be: ${advice}`,
    };
    warn(`${name}: ${error.message} [${error.code}]`);
    return { directory, mirror, error };
  }
  const native = binding();
  const fsck = new native.NativeFsck(directory, mirror, options.repair ?? false);
  const progress = setInterval(() => {
    const [done = 0, total = 0] = fsck.progress();
    warn(`${name}: ${bytes(done)} of ${bytes(total)}`);
  }, PROGRESS_MS);
  try {
    return { directory, mirror, ...(JSON.parse(await guardAsync(() => fsck.run())) as FsckReport) };
  } catch (thrown) {
    const { code, message } = toElgateError(thrown);
    warn(`${name}: ${message} [${code}]`);
    return { directory, mirror, error: { code, message } };
  } finally {
    clearInterval(progress);
  }
}

function exitCode(result: Result): number {
  if ('error' in result) return FSCK_EXIT.failed;
  const { repaired, repairable, left } = result;
  return (repaired > 0 ? FSCK_EXIT.repaired : 0) | (repairable + left > 0 ? FSCK_EXIT.left : 0);
}

function report(result: Result, { repair }: Options): void {
  if ('error' in result) return;
  const records = result.first_lsn === null ? 'no records' : `records ${span(result.first_lsn, result.last_lsn)}`;
  const live = result.live ? '; a writer has it open: what is not durable yet was left out' : '';
  const parts = [
    `${result.directory}: ${verdict(result, repair ?? false)}`,
    `  ${count(result.segments)} segments, ${count(result.batches)} batches, ${records}, ${bytes(result.bytes)} read${live}`,
    ...result.findings.map(line),
    ...(result.findings_omitted > 0 ? [`  and ${count(result.findings_omitted)} findings more`] : []),
  ];
  print(parts.join('\n'));
}

function verdict({ repaired, repairable, left, lost_records: lost }: FsckReport, repair: boolean): string {
  if (repaired + repairable + left === 0) return 'all is well';
  const said = [
    ...(repaired > 0 ? [`${count(repaired)} repaired`] : []),
    ...(repairable > 0 ? [`${count(repairable)} can be repaired${repair ? '' : ' (--repair)'}`] : []),
    ...(left > 0 ? [`${count(left)} left`] : []),
    ...(lost > 0 ? [`${count(lost)} records lost`] : []),
  ];
  return said.join(', ');
}

const MARKS = { note: 'note', repairable: 'FIXABLE', repaired: 'FIXED', left: 'LEFT' } as const;

function line(finding: FsckFinding): string {
  const where = [
    finding.path,
    ...(finding.from_byte === null ? [] : [`bytes ${finding.from_byte}..${finding.to_byte}`]),
    ...(finding.first_lsn === null ? [] : [`records ${span(finding.first_lsn, finding.last_lsn)}`]),
  ].join(', ');
  const advice = finding.advice === '' ? '' : `\n           ${finding.advice}`;
  return `  ${MARKS[finding.outcome].padEnd(7)}  ${finding.kind}: ${where}\n           ${finding.what}${advice}`;
}

function span(first: number, last: number | null): string {
  return last === null || last === first ? count(first) : `${count(first)} to ${count(last)}`;
}
