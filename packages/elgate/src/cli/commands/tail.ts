// `elgate tail`: the records of a log, live or offline.

import { Command } from 'commander';
import { ElgateError } from '../../errors.js';
import { tailLog } from '../../library/tail.js';
import type { Gap, LogRecord, TailOptions } from '../../library/types.js';
import { logDirectory, type WhereOptions, withFlags } from '../locate.js';
import { write } from '../output.js';

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
  const records = tailLog(directory, target, {
    from: from ?? standard,
    follow,
    onGap: (gap) => reportGap(target, gap, options.json ?? false),
    ...(options.reader === undefined ? {} : { reader: options.reader }),
  });
  const commits = options.reader === undefined ? undefined : new Commits();
  for await (const record of records) {
    await write(options.json ? jsonLine(record) : plainLine(record));
    commits?.note(record);
  }
  await commits?.finish();
}

/** Remembers the newest record that was printed; one commit at a time, for all printed meanwhile. */
class Commits {
  #newest: LogRecord | undefined;
  #running: Promise<void> | undefined;
  #failure: unknown;

  note(record: LogRecord): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#newest = record;
    this.#running ??= this.#run().catch((error) => {
      this.#failure = error;
    });
  }

  async finish(): Promise<void> {
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #run(): Promise<void> {
    while (this.#newest !== undefined) {
      const record = this.#newest;
      this.#newest = undefined;
      await record.commit();
    }
    this.#running = undefined;
  }
}

function parseFrom(text: string): NonNullable<TailOptions['from']> {
  if (text === 'start' || text === 'end') return text;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  const time = new Date(text);
  if (!Number.isNaN(time.getTime())) return time;
  throw new ElgateError(
    'ERR_ELGATE_USAGE',
    `--from takes start, end, a record number or a time, not ${JSON.stringify(text)}`,
  );
}

function plainLine({ data }: LogRecord): Uint8Array {
  const line = Buffer.allocUnsafe(data.length + 1);
  line.set(data);
  line[data.length] = 10;
  return line;
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
