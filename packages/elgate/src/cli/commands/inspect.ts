// `elgate inspect`: what a log's directory holds.

import { Command } from 'commander';
import { ElgateError, guard } from '../../errors.js';
import type { LogDescription } from '../../native/binding.js';
import { binding } from '../../native/load.js';
import { logDirectory, type WhereOptions, withFlags } from '../locate.js';
import { bytes, count, print, printJson, table } from '../output.js';

export function inspectCommand(): Command {
  const command = new Command('inspect')
    .description('segments, watermarks, readers and writer of a log')
    .argument('<path|route>', 'the directory of a log, or a route')
    .option('--json', 'as one JSON object')
    .action(async (target: string, options: WhereOptions & { json?: boolean }) => {
      const directory = await logDirectory(target, options);
      const log = JSON.parse(guard(() => binding().describeLog(directory))) as LogDescription;
      if (log.segments.length === 0 && log.cursors.length === 0) {
        throw new ElgateError(
          'ERR_ELGATE_ROUTE_UNKNOWN',
          `${directory} holds no log: name a route, or the directory of its log`,
        );
      }
      if (options.json) printJson({ directory, ...log });
      else print(render(directory, log));
    });
  return withFlags(command, 'config', 'dataDir', 'ring');
}

function render(directory: string, log: LogDescription): string {
  const writer = log.writer.pid === 0 ? 'none' : `pid ${log.writer.pid}, ${log.writer.alive ? 'alive' : 'dead'}`;
  const segments = log.segments.map((segment) => [
    segment.name,
    segment.state,
    segment.first_lsn === null || segment.last_lsn === null
      ? 'none'
      : `${count(segment.first_lsn)} to ${count(segment.last_lsn)}`,
    bytes(segment.bytes),
  ]);
  const readers = log.cursors.map(({ name, lsn }) => [
    name,
    count(lsn),
    log.durable_lsn === null ? '-' : count(Math.max(0, log.durable_lsn - lsn)),
  ]);
  return [
    `${directory}\ndurable ${known(log.durable_lsn)}, visible ${known(log.visible_lsn)}, ` +
      `delivered ${known(log.delivered_lsn)}, next ${known(log.next_lsn)}; writer: ${writer}`,
    table(['SEGMENT', 'STATE', 'RECORDS', 'SIZE'], segments),
    readers.length === 0 ? 'no readers' : table(['READER', 'AT', 'LAG'], readers),
  ].join('\n\n');
}

function known(lsn: number | null): string {
  return lsn === null ? 'unknown' : count(lsn);
}
