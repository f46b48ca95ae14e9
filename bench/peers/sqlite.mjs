// better-sqlite3 as a durable queue: WAL, synchronous=FULL, one table of blobs.

import { join } from 'node:path';
import { blank, Numbered } from '../lib/payload.mjs';
import { distribution, oneAtATimeBlocking, percentile } from '../lib/samples.mjs';

const ROWS_PER_TRANSACTION = 1000;

export async function sqlite(directory, seconds) {
  const { default: Database } = await import('better-sqlite3');
  const database = new Database(join(directory, 'peer.sqlite'));
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE records (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)');
  const insert = database.prepare('INSERT INTO records (payload) VALUES (?)');
  const numbered = new Numbered();
  const memory = blank();
  const one = () => insert.run(numbered.next(memory));
  const thousand = database.transaction(() => {
    for (let row = 0; row < ROWS_PER_TRANSACTION; row += 1) one();
  });
  return {
    name: 'better-sqlite3',
    async single() {
      const { samples_us, per_s } = oneAtATimeBlocking(seconds, one);
      return {
        append_p50_us: percentile(samples_us, 50),
        append_p95_us: percentile(samples_us, 95),
        append_per_s: per_s,
        latency_us: distribution(samples_us),
      };
    },
    async volume() {
      const { per_s } = oneAtATimeBlocking(seconds, thousand);
      return { append_many_per_s: per_s * ROWS_PER_TRANSACTION };
    },
    async close() {
      const rows = database.prepare('SELECT payload FROM records ORDER BY id').pluck().iterate();
      await numbered.verify('better-sqlite3', rows);
      database.close();
    },
  };
}
