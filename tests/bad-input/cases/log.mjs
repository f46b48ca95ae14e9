// Logs that somebody damaged: foreign, truncated and bit-flipped segments. Damage to acknowledged records is reported and
// quarantined, everything else is served, nothing is deleted.

import fs from 'node:fs';
import path from 'node:path';
import { startReceiver } from '../../crash/lib/far-end.mjs';
import { readReceipts } from '../../crash/lib/history.mjs';
import { segments } from '../../crash/lib/torn-tail.mjs';
import { until } from '../../crash/lib/wait.mjs';
import { expect, expectDelivered, listing, putLines, routeStatus, runningGate, tailAll } from '../lib/case.mjs';

const GROUPS = 5;
const GROUP = 20;

/** Several groups of records, each in batches of its own, all durable and delivered; the daemon has stopped. */
async function fullLog(sandbox, options) {
  const gate = await runningGate(sandbox, options);
  for (let group = 0; group < GROUPS; group += 1) await putLines(sandbox, gate, GROUP);
  await expectDelivered(gate);
  await gate.daemon.stop();
  return gate;
}

const newest = (gate, route = 'access') =>
  segments(gate.dataDir, route)
    .filter(({ batches }) => batches > 0)
    .at(-1);

/** The batch in the middle that holds records. */
function middleBatch(segment) {
  const holding = segment.offsets.filter(({ records }) => records > 0);
  return holding[holding.length >> 1];
}

function flip(file, offset) {
  const descriptor = fs.openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(descriptor, byte, 0, 1, offset);
  byte[0] ^= 0x10;
  fs.writeSync(descriptor, byte, 0, 1, offset);
  fs.closeSync(descriptor);
}

/** The daemon says somewhere an operator looks that acknowledged data of `route` is damaged. */
async function expectDamageReported(gate, sandbox, route) {
  const status = JSON.stringify(await routeStatus(gate, route));
  const log = fs.readFileSync(sandbox.path(gate.daemon.log), 'utf8');
  expect(
    `${status}${log}`.includes('ERR_ELGATE_LOG_CORRUPT'),
    `neither status nor log names the damage:\n${status}\n${log}`,
  );
}

export const cases = [
  {
    title: 'log: a bit flipped in an acknowledged record: quarantined, reported, the rest is served',
    async run(sandbox) {
      const gate = await fullLog(sandbox);
      const segment = newest(gate);
      const batch = middleBatch(segment);
      flip(segment.file, batch.offset + 64 + 32 + 3);
      const before = listing(gate.dataDir);
      await gate.daemon.start().ready();
      await expectDamageReported(gate, sandbox, 'access');
      const { records, stderr, code } = await tailAll(sandbox, gate);
      const seen = new Set(records.map(({ lsn }) => lsn).filter((lsn) => lsn !== undefined));
      const missing = Array.from({ length: GROUPS * GROUP }, (_, index) => index + 1).filter((lsn) => !seen.has(lsn));
      expect(
        missing.length >= 1 && missing.length <= batch.records,
        `expected a gap of 1 to ${batch.records} records, missing: ${missing}`,
      );
      expect(
        missing.every((lsn) => lsn >= batch.firstLsn && lsn < batch.firstLsn + batch.records),
        `healthy records are missing: ${missing}`,
      );
      expect(
        code !== 0 || /gap|damaged|ERR_ELGATE_LOG_CORRUPT/i.test(stderr + JSON.stringify(records)),
        `tail is silent about the gap: ${stderr}`,
      );
      const quarantine = path.join(gate.dataDir, 'access', 'quarantine');
      expect(fs.existsSync(quarantine) && fs.readdirSync(quarantine).length > 0, 'nothing was quarantined');
      const after = listing(gate.dataDir);
      expect(
        before.every((file) => after.includes(file)),
        `files were deleted: ${before.filter((file) => !after.includes(file))}`,
      );
      await putLines(sandbox, gate, GROUP);
      await expectDelivered(gate);
    },
  },
  {
    title: 'log: damage to records that are not delivered yet: their neighbours are delivered, in order',
    async run(sandbox) {
      const receiver = await startReceiver(sandbox, { always: 'error' });
      const gate = await runningGate(sandbox, { more: { hooks: { sink: 'http', url: receiver.url } } });
      for (let group = 0; group < GROUPS; group += 1) await putLines(sandbox, gate, GROUP, { route: 'hooks' });
      await gate.daemon.kill();
      await receiver.stop();
      const segment = newest(gate, 'hooks');
      const batch = middleBatch(segment);
      flip(segment.file, batch.offset + 64 + 32 + 3);
      const journal = sandbox.path('healed.journal');
      await startReceiver(sandbox, { journal, port: receiver.port });
      await gate.daemon.start().ready();
      await expectDamageReported(gate, sandbox, 'hooks');
      const total = GROUPS * GROUP;
      const delivered = () => new Set(readReceipts(journal, 'hooks').receipts.map(({ lsn }) => lsn));
      await until('the last record at the far end', () => delivered().has(total), {
        everyMs: 10,
        abort: () => gate.daemon.deathReason(),
      });
      const missing = Array.from({ length: total }, (_, index) => index + 1).filter((lsn) => !delivered().has(lsn));
      expect(
        missing.length >= 1 && missing.every((lsn) => lsn >= batch.firstLsn && lsn < batch.firstLsn + batch.records),
        `missing: ${missing}`,
      );
    },
  },
  {
    title: 'log: a segment cut short: what is left is served, the loss is reported, new records are taken',
    async run(sandbox) {
      const gate = await fullLog(sandbox);
      const segment = newest(gate);
      const batch = middleBatch(segment);
      fs.truncateSync(segment.file, batch.offset + 100);
      const before = listing(gate.dataDir);
      await gate.daemon.start().ready();
      await expectDamageReported(gate, sandbox, 'access');
      const { records } = await tailAll(sandbox, gate);
      const seen = new Set(records.map(({ lsn }) => lsn));
      for (let lsn = 1; lsn < batch.firstLsn; lsn += 1)
        expect(seen.has(lsn), `record ${lsn} before the cut is not served`);
      const after = listing(gate.dataDir);
      expect(
        before.every((file) => after.includes(file)),
        `files were deleted: ${before.filter((file) => !after.includes(file))}`,
      );
      const next = await putLines(sandbox, gate, GROUP);
      await expectDelivered(gate);
      expect((await routeStatus(gate, 'access')).durable_lsn >= GROUPS * GROUP + next.length, 'LSNs were given twice');
    },
  },
  {
    title: "log: another log's segment is not served, is reported, and is left alone",
    async run(sandbox) {
      const gate = await runningGate(sandbox, { more: { other: { sink: 'none' } } });
      await putLines(sandbox, gate, GROUP);
      await putLines(sandbox, gate, GROUP, { route: 'other' });
      await expectDelivered(gate);
      await gate.daemon.kill();
      const foreign = path.join(gate.dataDir, 'access', 'access-20990101-001.wal');
      fs.copyFileSync(newest(gate, 'other').file, foreign);
      const bytes = fs.readFileSync(foreign);
      await gate.daemon.start().ready();
      const { records } = await tailAll(sandbox, gate);
      expect(records.length >= GROUP, `only ${records.length} records are served`);
      const other = records.filter((record) => JSON.stringify(record).includes('of other'));
      expect(other.length === 0, `records of another log are served: ${JSON.stringify(other[0])}`);
      const log = fs.readFileSync(sandbox.path(gate.daemon.log), 'utf8');
      const status = JSON.stringify(await gate.daemon.status());
      expect(
        `${log}${status}`.includes(path.basename(foreign)),
        `neither log nor status names the foreign file:\n${log}`,
      );
      await putLines(sandbox, gate, GROUP);
      await expectDelivered(gate);
      expect(fs.readFileSync(foreign).equals(bytes), 'the foreign file was changed');
    },
  },
  {
    title: 'log: a file that is no segment is not served and left alone',
    async run(sandbox) {
      const gate = await fullLog(sandbox);
      const strange = path.join(gate.dataDir, 'access', 'access-20990101-002.wal');
      fs.writeFileSync(strange, 'this is no segment\n');
      await gate.daemon.start().ready();
      await putLines(sandbox, gate, GROUP);
      await expectDelivered(gate);
      expect(fs.readFileSync(strange, 'utf8') === 'this is no segment\n', 'the strange file was changed');
    },
  },
  {
    title: 'log: a flipped bit in a segment header: every record is served, or the damage is reported',
    async run(sandbox) {
      const gate = await fullLog(sandbox);
      const segment = newest(gate);
      flip(segment.file, 0x30);
      const before = listing(gate.dataDir);
      await gate.daemon.start().ready();
      const { records } = await tailAll(sandbox, gate);
      if (records.length < GROUPS * GROUP) await expectDamageReported(gate, sandbox, 'access');
      const after = listing(gate.dataDir);
      expect(
        before.every((file) => after.includes(file)),
        `files were deleted: ${before.filter((file) => !after.includes(file))}`,
      );
      await putLines(sandbox, gate, GROUP);
      await expectDelivered(gate);
    },
  },
];
