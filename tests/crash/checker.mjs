// The checker: a history of one route goes in, the first broken promise with its story comes out.
//
//   history = {
//     route, sink: "file" | "http",
//     events:   [{ type: "invoke" | "ok" | "fail" | "info", id, at, ... }]    what producers recorded, `at` ascending
//     receipts: [{ id, hash, lsn?, key?, processed }]                         what the far end saw, in order
//     pending, dead: Set of ids          still on their way, or dead-lettered (default: none)
//     durable                            the log's durable LSN at the end, if known
//     injected                           kills and stops that landed while data flowed
//     recovered: [{ label, digest }]     the far end's state after each recovery from the same log
//     resumed:   [{ label, ms, limit }]  how long after each restart acknowledgements came again
//     leaks:     [{ what, value, limit }]
//   }
//
// An invoke carries { hash, producer, incarnation, sequence }; an ok { lsn, level }; a fail { code }. Hashes are over
// the whole payload. Every invariant is checked in one pass over events or receipts, with maps keyed by id.
//
//   I1 durable-acknowledged is delivered, pending or dead-lettered
//   I2 what is delivered was sent, bytes equal
//   I3 first deliveries follow the LSN; acknowledged before sent means a lower LSN; one producer's records keep their order
//   I4 one effect per id: never twice in a file; over HTTP only under the same key with the same body, one id per key
//   I5 what failed for certain is never delivered
//   I6 recovering again changes nothing
//   I7 acknowledgements come again in bounded time
//   I8 nothing leaks

const STORY_LIMIT = 20;

/** `{ violations: [{ invariant, story }], measured, figures }`. Empty violations and `measured` mean the run is good. */
export function check(history) {
  const violations = [];
  const count = {};
  const broken = (invariant, story) => {
    count[invariant] = (count[invariant] ?? 0) + 1;
    if (violations.length < STORY_LIMIT) violations.push({ invariant, story: `${history.route}: ${story}` });
  };

  const records = readEvents(history, broken);
  const deliveries = readReceipts(history, records, broken);
  const lost = checkNothingLost(history, records, deliveries, broken);
  checkRecoveries(history, broken);
  for (const { label, ms, limit } of history.resumed ?? []) {
    if (ms > limit)
      broken('I7', `acknowledgements came again only ${ms.toFixed(0)} ms after ${label} (limit ${limit} ms)`);
  }
  for (const { what, value, limit } of history.leaks ?? []) {
    if (value > limit) broken('I8', `${what}: ${value}, more than ${limit}`);
  }

  const measured = history.injected > 0 && records.acked > 0;
  return {
    violations,
    count,
    measured,
    figures: {
      invoked: records.byId.size,
      acked: records.acked,
      failed: records.failed,
      unknown: records.byId.size - records.acked - records.failed,
      lost,
      phantom: count.I2 ?? 0,
      delivered: deliveries.first.size,
      delivered_without_ack: deliveries.unacknowledged,
      raw_duplicates: deliveries.duplicates,
      refused_receipts: deliveries.refused,
      injected: history.injected,
      resume_ms_max: Math.round(Math.max(0, ...(history.resumed ?? []).map(({ ms }) => ms))),
    },
  };
}

/** One line per run, and the story of the first violation. */
export function describe(result) {
  if (result.violations.length > 0) {
    const kinds = Object.entries(result.count).map(([invariant, times]) => `${invariant} x ${times}`);
    return `${kinds.join(', ')}; first: ${result.violations[0].invariant}: ${result.violations[0].story}`;
  }
  if (!result.measured) return 'NOT MEASURED: nothing was acknowledged, or nothing was killed while data flowed';
  return Object.entries(result.figures)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}

const name = (record) =>
  `${record.id} (producer ${record.producer}, incarnation ${record.incarnation}, sequence ${record.sequence})`;

/** Producers' side: outcomes by id, uniqueness of LSNs, and the order of I3 that needs no receipts. */
function readEvents(history, broken) {
  const byId = new Map();
  const byLsn = new Map();
  let acked = 0;
  let failed = 0;
  let highest = 0; // highest LSN acknowledged so far, and whose
  let highestId;

  for (const event of history.events) {
    if (event.type === 'invoke') {
      if (byId.has(event.id)) broken('I2', `id ${event.id} was sent twice: the harness is broken`);
      byId.set(event.id, { ...event, floor: highest, floorId: highestId, outcome: undefined, lsn: undefined });
      continue;
    }
    const record = byId.get(event.id);
    if (!record) {
      broken('I2', `an outcome (${event.type}) came for ${event.id}, which was never sent`);
      continue;
    }
    if (record.outcome && record.outcome !== event.type && event.type !== 'info') {
      broken('I5', `${name(record)} was first reported ${record.outcome}, then ${event.type}`);
    }
    if (event.type === 'fail') {
      record.outcome = 'fail';
      record.code = event.code;
      failed += 1;
    } else if (event.type === 'ok') {
      if (record.outcome !== 'ok') acked += 1;
      record.outcome = 'ok';
      record.level = event.level;
      record.lsn = event.lsn;
      const other = byLsn.get(event.lsn);
      if (other && other !== record)
        broken('I3', `LSN ${event.lsn} was given to ${name(other)} and to ${name(record)}`);
      byLsn.set(event.lsn, record);
      if (event.lsn <= record.floor) {
        broken(
          'I3',
          `${name(record)} was sent after ${record.floorId} had been acknowledged at LSN ${record.floor}, yet got LSN ${event.lsn}`,
        );
      }
      if (event.lsn > highest) {
        highest = event.lsn;
        highestId = event.id;
      }
    }
  }

  const last = new Map();
  for (const record of byId.values()) {
    if (record.outcome !== 'ok') continue;
    const lane = `${record.producer}.${record.incarnation}`;
    const before = last.get(lane);
    if (before && before.sequence < record.sequence && before.lsn >= record.lsn) {
      broken('I3', `${name(before)} got LSN ${before.lsn}, the later ${name(record)} got LSN ${record.lsn}`);
    }
    last.set(lane, record);
  }
  return { byId, byLsn, acked, failed };
}

/** The far end's side: bytes, order, duplicates. */
function readReceipts(history, records, broken) {
  const first = new Map(); // id -> index of the first receipt that had an effect
  const keys = new Map(); // key -> { id, hash, index }
  const keyOf = new Map(); // id -> key
  let duplicates = 0;
  let refused = 0;
  let unacknowledged = 0;
  let highest = 0;
  let highestId;

  history.receipts.forEach((receipt, index) => {
    const record = records.byId.get(receipt.id);
    const where = `receipt ${index + 1}${receipt.key ? ` (key ${receipt.key})` : ''}`;
    if (!record) {
      broken('I2', `${where} holds ${receipt.id ?? 'bytes without an id'}, which nobody sent`);
      return;
    }
    if (record.hash !== receipt.hash) broken('I2', `${where} holds ${name(record)} with bytes other than those sent`);
    if (record.outcome === 'fail')
      broken('I5', `${where} delivers ${name(record)}, which had failed with ${record.code}`);

    if (history.sink === 'http') {
      if (!receipt.key?.startsWith(`${history.route}/`)) {
        broken('I4', `${where} for ${name(record)} has no idempotency key "${history.route}/<lsn>"`);
      } else {
        const known = keys.get(receipt.key);
        if (known && (known.hash !== receipt.hash || known.id !== receipt.id)) {
          broken(
            'I4',
            `key ${receipt.key} came with ${known.id} at receipt ${known.index + 1} and with ${receipt.id} at ${where}`,
          );
        }
        if (!known) keys.set(receipt.key, { id: receipt.id, hash: receipt.hash, index });
        const other = keyOf.get(receipt.id);
        if (other && other !== receipt.key)
          broken('I4', `${name(record)} came under ${other} and under ${receipt.key}`);
        keyOf.set(receipt.id, receipt.key);
      }
    }

    if (!receipt.processed) {
      refused += 1;
      return;
    }
    if (first.has(receipt.id)) {
      duplicates += 1;
      if (history.sink === 'file')
        broken(
          'I4',
          `${name(record)} stands twice in the file: at line ${first.get(receipt.id) + 1} and at line ${index + 1}`,
        );
      return;
    }
    first.set(receipt.id, index);
    if (record.outcome !== 'ok') unacknowledged += 1;

    const lsn = receipt.lsn ?? record.lsn;
    if (receipt.lsn !== undefined && record.lsn !== undefined && receipt.lsn !== record.lsn) {
      broken('I3', `${where} gives ${name(record)} LSN ${receipt.lsn}, its acknowledgement said ${record.lsn}`);
    }
    if (lsn === undefined) return;
    if (lsn < highest) {
      broken('I3', `${where}: first delivery of ${name(record)} at LSN ${lsn} after ${highestId} at LSN ${highest}`);
    } else {
      highest = lsn;
      highestId = receipt.id;
    }
  });
  return { first, duplicates, refused, unacknowledged };
}

/** Returns how many acknowledged records are nowhere. That the log's count does not add up breaks I1 too, and loses none. */
function checkNothingLost(history, records, deliveries, broken) {
  let lost = 0;
  const excused = (id) => history.pending?.has(id) || history.dead?.has(id);
  let before;
  for (const record of records.byId.values()) {
    const delivered = deliveries.first.has(record.id);
    if (record.outcome === 'ok' && !delivered && !excused(record.id)) {
      lost += 1;
      const after = before ? `; the one before it that arrived is ${before.id}` : '; nothing before it arrived';
      broken('I1', `${name(record)} was acknowledged ${record.level} at LSN ${record.lsn} and never delivered${after}`);
    }
    if (delivered) before = record;
  }
  const total = history.durable;
  const arrived = deliveries.first.size + (history.pending?.size ?? 0) + (history.dead?.size ?? 0);
  if (total !== undefined && arrived < total) {
    broken(
      'I1',
      `the log is durable up to LSN ${total}, but only ${arrived} records are delivered, pending or dead-lettered`,
    );
  }
  if (total !== undefined && arrived > total) {
    broken('I2', `${arrived} records were delivered from a log of ${total}`);
  }
  return lost;
}

function checkRecoveries(history, broken) {
  const [reference, ...others] = history.recovered ?? [];
  for (const other of others) {
    if (other.digest !== reference.digest) {
      broken('I6', `${other.label} left the far end with ${other.digest}, ${reference.label} with ${reference.digest}`);
    }
  }
}
