// `elgate tail`: the records of a log, live or offline.

import { Command } from 'commander';
import { ElgateError } from '../../errors.js';
import { tailBatches } from '../../library/tail.js';
import type { Gap, LogRecord, TailOptions } from '../../library/types.js';
import { logDirectory, type WhereOptions, withFlags } from '../locate.js';
import { write } from '../output.js';

const LINE_FEED = Buffer.from('\n');

interface Options extends WhereOptions {
  follow?: boolean;
  from?: string;
  reader?: string;
  json?: boolean;
}

export function tailCommand(): Command {
  const command = new Command('tail')
    .description('print the records of a log')
    .argument('<route|path>', 'a route, or the directory of a log')
    .option('-f, --follow', 'go on as records come')
    .option(
      '--from <position>',
      'start, end, a record number, or a time such as 2026-01-31T12:00 (default: start; end with -f)',
    )
    .option('--reader <name>', 'go on where this reader was, and remember where it came to')
    .option('--json', 'one JSON object per record')
    .action(tail);
  return withFlags(command, 'config', 'dataDir', 'ring');
}

async function tail(target: string, options: Options): Promise<void> {
  const from = options.from === undefined ? undefined : parseFrom(options.from);
  const directory = await logDirectory(target, options);
  const follow = options.follow ?? false;
  const standard = follow && options.reader === undefined ? 'end' : 'start';
  const batches = tailBatches(directory, target, {
    from: from ?? standard,
    follow,
    onGap: (gap) => reportGap(target, gap, options.json ?? false),
    ...(options.reader === undefined ? {} : { reader: options.reader }),
  });
  for await (const records of batches) {
    await write(options.json ? records.map(jsonLine).join('') : plainLines(records));
    // Only what was printed counts as read.
    if (options.reader !== undefined) await records.at(-1)?.commit();
  }
}

function parseFrom(text: string): NonNullable<TailOptions['from']> {
  if (text === 'start' || text === 'end') return text;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  // The date parser would also make years of "-1" and "5 records".
  const time = new Date(/^\d{4}-\d{2}/.test(text) ? text : Number.NaN);
  if (!Number.isNaN(time.getTime())) return time;
  throw new ElgateError(
    'ERR_ELGATE_USAGE',
    `--from takes start, end, a record number or a time, not ${JSON.stringify(text)}`,
  );
}

function plainLines(records: readonly LogRecord[]): Uint8Array {
  return Buffer.concat(records.flatMap(({ data }) => [data, LINE_FEED]));
}

function jsonLine(record: LogRecord): string {
  const text = record.text();
  // Bytes that are not UTF-8 do not survive as text.
  const lossless = Buffer.byteLength(text) === record.data.length && Buffer.from(text).equals(record.data);
  const payload = lossless ? { data: text } : { data_base64: Buffer.from(record.data).toString('base64') };
  return `${JSON.stringify({ lsn: record.lsn, time: record.time.toISOString(), ...payload })}\n`;
}

function reportGap(target: string, gap: Gap, json: boolean): void {
  process.exitCode = 1;
  if (json) process.stdout.write(`${JSON.stringify({ gap })}\n`);
  process.stderr.write(
    `elgate: ${target}: records ${gap.from} to ${gap.to} cannot be read: ${gap.reason} [ERR_ELGATE_LOG_CORRUPT]\n`,
  );
}
