// Follows a route's log: an async iterator over records, in this or any other process's log.

import { isRouteName, ROUTE_NAME_RULE } from '../config/schema.js';
import { ElgateError, guardAsync } from '../errors.js';
import type { NativeReader, NativeReadResult } from '../native/binding.js';
import { binding } from '../native/load.js';
import type { Gap, LogRecord, TailOptions } from './types.js';

const READ_BYTES_MAX = 256 * 1024;
/**
 * How long one read waits for records. Short, because it waits on one of the few threads that file
 * operations of the whole process share; also bounds how late an abort is noticed.
 */
const READ_WAIT_MS = 50;
const INDEX_FIELDS = 4;

interface Reader {
  readonly native: NativeReader;
  readonly what: string;
  readonly named: boolean;
  closed: boolean;
}

/** The log in `directory`, record by record. `what` names it in messages. */
export async function* tailLog(directory: string, what: string, options: TailOptions = {}): AsyncGenerator<LogRecord> {
  for await (const records of tailBatches(directory, what, options)) {
    for (const record of records) {
      yield record;
      options.signal?.throwIfAborted();
    }
  }
}

/** As {@link tailLog}, as many records at a time as one read brings. */
export async function* tailBatches(directory: string, what: string, options: TailOptions): AsyncGenerator<LogRecord[]> {
  const { signal, follow = true, reader: name = null } = options;
  signal?.throwIfAborted();
  if (name !== null && !isRouteName(name)) {
    throw new ElgateError('ERR_ELGATE_USAGE', `reader ${JSON.stringify(name)} cannot be a name: ${ROUTE_NAME_RULE}`);
  }
  const from = position(options.from ?? (name === null ? 'end' : 'start'));
  const native = await guardAsync(() => binding().NativeReader.open(directory, from, name));
  const reader: Reader = { native, what, named: name !== null, closed: false };
  const lost = native.lost();
  if (lost !== null) process.emitWarning(`${what}: ${lost}`, { code: 'ERR_ELGATE_LOG_CORRUPT' });
  try {
    for (;;) {
      const result = await guardAsync(() => native.read(READ_BYTES_MAX, follow ? READ_WAIT_MS : 0));
      signal?.throwIfAborted();
      let records = recordsOf(reader, result);
      for (const gap of JSON.parse(result.gaps) as Gap[]) {
        const before = records.filter(({ lsn }) => lsn < gap.from);
        if (before.length > 0) yield before;
        report(gap, what, options);
        records = records.slice(before.length);
      }
      if (records.length > 0) yield records;
      if (!follow && result.caughtUp) return;
    }
  } finally {
    reader.closed = true;
    await native.close();
  }
}

/** The position as the addon takes it. */
export function position(from: NonNullable<TailOptions['from']>): string {
  if (from instanceof Date) {
    if (Number.isNaN(from.getTime())) throw new TypeError('tail: from is not a valid date');
    return `time:${from.getTime() * 1000}`;
  }
  if (typeof from === 'number' && (!Number.isSafeInteger(from) || from < 0)) {
    throw new TypeError(`tail: from must be a record's number, not ${from}`);
  }
  return String(from);
}

function recordsOf(reader: Reader, { data, index }: NativeReadResult): LogRecord[] {
  const records: LogRecord[] = [];
  for (let at = 0; at + INDEX_FIELDS <= index.length; at += INDEX_FIELDS) {
    const lsn = index[at] as number;
    const timeUs = index[at + 1] as number;
    const offset = index[at + 2] as number;
    const bytes = data.subarray(offset, offset + (index[at + 3] as number));
    records.push({
      lsn,
      time: new Date(timeUs / 1000),
      data: bytes,
      text: () => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'),
      commit: () => commit(reader, lsn),
    });
  }
  return records;
}

async function commit({ native, what, named, closed }: Reader, lsn: number): Promise<void> {
  if (!named) {
    throw new ElgateError('ERR_ELGATE_UNSUPPORTED', 'commit() needs a named reader: tail(route, { reader: "name" })');
  }
  if (closed) {
    throw new ElgateError('ERR_ELGATE_CLOSED', `${what}: the loop over its records has ended; commit inside it`);
  }
  await guardAsync(() => native.commit(lsn));
}

function report(gap: Gap, what: string, options: TailOptions): void {
  if (options.onGap !== undefined) {
    options.onGap(gap);
    return;
  }
  throw new ElgateError(
    'ERR_ELGATE_LOG_CORRUPT',
    `${what}: records ${gap.from} to ${gap.to} cannot be read (${gap.reason}): pass onGap to go on after them`,
  );
}
