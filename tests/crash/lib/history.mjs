// Builds the checker's histories from what the parties wrote down: oracle journals, the receiver's journal, output files.

import crypto from 'node:crypto';
import fs from 'node:fs';
import { Lines } from './access-log.mjs';

export const hashOf = (bytes) => crypto.createHash('sha1').update(bytes).digest('hex');

/**
 * The events of several producers' journals by route, in order of time. A journal's last line may be cut short by a
 * kill; it is left out, which can only make the checker ask for less.
 */
export function readJournals(files) {
  const byRoute = new Map();
  const events = [];
  for (const file of files) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'latin1') : '';
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      const [at, kind, route, id, first, second] = line.split(' ');
      if (!id) continue;
      const event = { at: BigInt(at), route, id };
      if (kind === 'i') {
        const [producer, incarnation, sequence] = id.slice(1).split('.').map(Number);
        events.push({ ...event, type: 'invoke', hash: first, producer, incarnation, sequence });
      } else if (kind === 'o') events.push({ ...event, type: 'ok', lsn: Number(first), level: second });
      else if (kind === 'f') events.push({ ...event, type: 'fail', code: first });
      else if (kind === 'u') events.push({ ...event, type: 'info', code: first });
    }
  }
  // A stable sort: events of one producer at the same nanosecond keep their order.
  events.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  for (const event of events) {
    if (!byRoute.has(event.route)) byRoute.set(event.route, []);
    byRoute.get(event.route).push(event);
  }
  return byRoute;
}

/**
 * The events of one `put` of `lines` into a fresh log, of which every line was acknowledged: the only producer of its
 * route, so line N is record N.
 */
export function eventsOfPut(lines, acknowledged) {
  const events = [];
  for (let number = 1; number <= lines.count; number += 1) {
    const id = `line${number}`;
    events.push({
      type: 'invoke',
      id,
      hash: hashOf(lines.line(number - 1)),
      producer: 'put',
      incarnation: 1,
      sequence: number,
    });
  }
  for (let number = 1; number <= acknowledged; number += 1) {
    events.push({ type: 'ok', id: `line${number}`, lsn: number, level: 'durable' });
  }
  return events;
}

/** A map from payload hash to id, for payloads that carry no id of their own. */
export function idsByHash(events) {
  return new Map(events.filter(({ type }) => type === 'invoke').map(({ hash, id }) => [hash, id]));
}

/** The receiver's journal as receipts of `route`. Receipts whose key names another route are left to that route. */
export function readReceipts(file, route, ids) {
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'latin1') : '';
  const receipts = [];
  const how = {};
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    const [key, hash, id, processed, answer] = line.split(' ');
    if (!answer) continue;
    if (key !== '-' && !key.startsWith(`${route}/`)) continue;
    const number = /^\d+$/.exec(key.slice(route.length + 1))?.[0];
    receipts.push({
      key: key === '-' ? undefined : key,
      lsn: number === undefined ? undefined : Number(number),
      hash,
      id: ids?.get(hash) ?? (id === '-' ? undefined : id),
      processed: processed === '1',
    });
    how[answer] = (how[answer] ?? 0) + 1;
  }
  return { receipts, how };
}

/** The lines of a file sink's output as receipts. An unfinished last line is a receipt without an id: bytes nobody sent. */
export function receiptsOfFile(file, ids) {
  const bytes = fs.existsSync(file) ? fs.readFileSync(file) : Buffer.alloc(0);
  const lines = new Lines(bytes);
  const receipts = [];
  for (let number = 0; number < lines.count; number += 1) {
    const line = lines.line(number);
    const hash = hashOf(line);
    const own = /^p\d+\.\d+\.\d+(?= )/.exec(line.subarray(0, 64).toString('latin1'))?.[0];
    receipts.push({ id: ids?.get(hash) ?? own, hash, processed: true });
  }
  const end = lines.starts.at(-1);
  if (end < bytes.length) receipts.push({ id: undefined, hash: hashOf(bytes.subarray(end)), processed: true });
  return receipts;
}

/** A short name for a file's exact content. */
export function digestOf(file) {
  const bytes = fs.readFileSync(file);
  return `${bytes.length} bytes ${hashOf(bytes).slice(0, 12)}`;
}
