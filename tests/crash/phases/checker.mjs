// Phase `checker`: the checker is given histories with known violations, and must see each one; a checker that sees
// nothing wrong in a good history and something wrong in each bad one is worth believing.

import { check } from '../checker.mjs';

const hashOf = (id) => `hash-of-${id}`;

/** A good history: three producers, interleaved, some failures, HTTP receipts with refusals and honest duplicates. */
function goodHistory(sink, random) {
  const events = [];
  const log = [];
  let at = 0;
  const tick = () => {
    at += 1;
    return at;
  };
  const open = [];
  const sequences = [0, 0, 0];
  const acknowledge = (all) => {
    while (open.length > (all ? 0 : 5)) {
      const record = open.shift();
      events.push({ type: 'ok', at: tick(), id: record.id, lsn: record.lsn, level: 'durable' });
    }
  };
  for (let step = 0; step < 300; step += 1) {
    const producer = random.int(0, 2);
    sequences[producer] += 1;
    const sequence = sequences[producer];
    const id = `p${producer}.1.${sequence}`;
    events.push({ type: 'invoke', at: tick(), id, hash: hashOf(id), producer, incarnation: 1, sequence });
    if (random.chance(0.05)) {
      events.push({ type: 'fail', at: tick(), id, code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE' });
      continue;
    }
    log.push(id);
    if (random.chance(0.05)) {
      events.push({ type: 'info', at: tick(), id });
    } else {
      open.push({ id, lsn: log.length });
    }
    acknowledge(false);
  }
  acknowledge(true);

  const receipts = [];
  log.forEach((id, index) => {
    const lsn = index + 1;
    if (sink === 'file') {
      receipts.push({ id, hash: hashOf(id), processed: true });
      return;
    }
    const receipt = { id, hash: hashOf(id), lsn, key: `orders/${lsn}` };
    if (random.chance(0.1)) receipts.push({ ...receipt, processed: false });
    receipts.push({ ...receipt, processed: true });
    if (random.chance(0.1)) receipts.push({ ...receipt, processed: true });
  });
  return {
    route: 'orders',
    sink,
    events,
    receipts,
    durable: log.length,
    injected: 7,
    recovered: [
      { label: 'first recovery', digest: 'a' },
      { label: 'second recovery', digest: 'a' },
    ],
    resumed: [{ label: 'kill 1', ms: 12, limit: 100 }],
    leaks: [{ what: 'open files', value: 30, limit: 64 }],
  };
}

const middle = (list, condition = () => true) => {
  for (let index = list.length >> 1; index < list.length; index += 1) if (condition(list[index], index)) return index;
  throw new Error('the history has no place for this violation');
};
const ackedIds = (history) => new Set(history.events.filter(({ type }) => type === 'ok').map(({ id }) => id));
const lsnOf = (history, id) => history.events.find((event) => event.type === 'ok' && event.id === id).lsn;

/** Each breaks one promise in a good history. */
const VIOLATIONS = [
  [
    'a lost acknowledged record',
    'I1',
    'both',
    (h) => {
      const acked = ackedIds(h);
      const { id } = h.receipts[middle(h.receipts, (receipt) => acked.has(receipt.id))];
      h.receipts = h.receipts.filter((receipt) => receipt.id !== id);
    },
  ],
  [
    'a lost acknowledged record hidden by a duplicate of another',
    'I1',
    'http',
    (h) => {
      const acked = ackedIds(h);
      const at = middle(h.receipts, (receipt) => acked.has(receipt.id));
      const { id } = h.receipts[at];
      const index = h.receipts.findIndex((receipt) => receipt.id !== id && receipt.processed);
      h.receipts = h.receipts.map((receipt) => (receipt.id === id ? { ...h.receipts[index] } : receipt));
    },
  ],
  [
    'a lost last record',
    'I1',
    'both',
    (h) => {
      const { id } = h.receipts.at(-1);
      h.receipts = h.receipts.filter((receipt) => receipt.id !== id);
    },
  ],
  [
    'a record that was only ever refused',
    'I1',
    'http',
    (h) => {
      const acked = ackedIds(h);
      const { id } = h.receipts[middle(h.receipts, (receipt) => acked.has(receipt.id))];
      for (const receipt of h.receipts) if (receipt.id === id) receipt.processed = false;
    },
  ],
  [
    'two deliveries swapped',
    'I3',
    'both',
    (h) => {
      const acked = ackedIds(h);
      const at = middle(
        h.receipts,
        (receipt, index) =>
          acked.has(receipt.id) &&
          acked.has(h.receipts[index - 1].id) &&
          receipt.id !== h.receipts[index - 1].id &&
          receipt.processed &&
          h.receipts[index - 1].processed &&
          h.receipts.findIndex(({ id, processed }) => processed && id === h.receipts[index - 1].id) === index - 1 &&
          h.receipts.findIndex(({ id, processed }) => processed && id === receipt.id) === index,
      );
      [h.receipts[at - 1], h.receipts[at]] = [h.receipts[at], h.receipts[at - 1]];
    },
  ],
  [
    'a phantom',
    'I2',
    'both',
    (h) => {
      h.receipts.splice(middle(h.receipts), 0, { id: 'p9.9.9', hash: 'x', lsn: 1, key: 'orders/1', processed: true });
    },
  ],
  [
    'an altered byte',
    'I2',
    'both',
    (h) => {
      const at = middle(h.receipts);
      h.receipts[at] = { ...h.receipts[at], hash: 'other bytes' };
    },
  ],
  [
    'a line twice in the file',
    'I4',
    'file',
    (h) => {
      const at = middle(h.receipts);
      h.receipts.splice(at, 0, { ...h.receipts[at] });
    },
  ],
  [
    'one key with two bodies',
    'I4',
    'http',
    (h) => {
      const at = middle(h.receipts, (receipt, index) => receipt.id !== h.receipts[index - 1].id);
      h.receipts[at] = { ...h.receipts[at], key: h.receipts[at - 1].key };
    },
  ],
  [
    'a duplicate under a new key',
    'I4',
    'http',
    (h) => {
      const at = middle(h.receipts, ({ processed }) => processed);
      h.receipts.push({ ...h.receipts[at], key: 'orders/999999', lsn: undefined });
    },
  ],
  [
    'a delivery without a key',
    'I4',
    'http',
    (h) => {
      const at = middle(h.receipts);
      h.receipts[at] = { ...h.receipts[at], key: undefined };
    },
  ],
  [
    'delivery of a definite failure',
    'I5',
    'both',
    (h) => {
      const { id } = h.events.find(({ type }) => type === 'fail');
      h.receipts.push({ id, hash: hashOf(id), lsn: h.durable + 1, key: `orders/${h.durable + 1}`, processed: true });
    },
  ],
  [
    'one LSN acknowledged for two records',
    'I3',
    'both',
    (h) => {
      const acks = h.events.filter(({ type }) => type === 'ok');
      acks.at(-1).lsn = acks[3].lsn;
    },
  ],
  [
    'an LSN below one acknowledged before it was sent',
    'I3',
    'both',
    (h) => {
      h.events.push({
        type: 'invoke',
        at: 1e9,
        id: 'p0.2.1',
        hash: hashOf('p0.2.1'),
        producer: 0,
        incarnation: 2,
        sequence: 1,
      });
      h.events.push({ type: 'ok', at: 1e9 + 1, id: 'p0.2.1', lsn: 2.5, level: 'durable' });
    },
  ],
  [
    "one producer's records out of order",
    'I3',
    'both',
    (h) => {
      const acks = h.events.filter(({ type }) => type === 'ok');
      const first = acks[10];
      const second = acks.slice(11).find(({ id }) => id.startsWith(first.id.slice(0, 2)));
      [first.lsn, second.lsn] = [second.lsn, first.lsn];
    },
  ],
  [
    'an acknowledgement with another LSN than the delivery',
    'I3',
    'http',
    (h) => {
      const id = h.receipts[middle(h.receipts, (receipt) => ackedIds(h).has(receipt.id))].id;
      const wrong = lsnOf(h, id) + 0.5;
      h.events.find((event) => event.type === 'ok' && event.id === id).lsn = wrong;
    },
  ],
  [
    'an unacknowledged hole in the log',
    'I1',
    'both',
    (h) => {
      h.durable += 1;
    },
  ],
  [
    'a second recovery that changes something',
    'I6',
    'both',
    (h) => {
      h.recovered[1].digest = 'b';
    },
  ],
  [
    'acknowledgements that stay away',
    'I7',
    'both',
    (h) => {
      h.resumed.push({ label: 'kill 2', ms: 5_000, limit: 100 });
    },
  ],
  [
    'a leak of open files',
    'I8',
    'both',
    (h) => {
      h.leaks[0].value = 4_000;
    },
  ],
];

export async function run({ random, report }) {
  for (const sink of ['file', 'http']) {
    const { violations, measured } = check(goodHistory(sink, random.fork(sink)));
    report.check(`a good ${sink} history passes`, violations.length === 0 && measured, violations[0]?.story);

    const idle = check({ ...goodHistory(sink, random.fork(sink)), injected: 0 });
    report.check(`a ${sink} run without kills is not measured`, !idle.measured, 'it counted as measured');

    checkSevenLoggedTwice(sink, random.fork(sink), report);

    for (const [title, invariant, where, breakIt] of VIOLATIONS) {
      if (where !== 'both' && where !== sink) continue;
      const history = goodHistory(sink, random.fork(sink));
      breakIt(history);
      const result = check(history);
      const seen = result.violations.map((violation) => violation.invariant);
      report.check(
        `${sink}: sees ${title}`,
        seen.includes(invariant),
        `expected ${invariant}, saw ${seen.join(', ') || 'nothing'}`,
      );
    }
  }
}

/** A log that took records again which it had: its numbers do not add up, and yet no record is lost. */
function checkSevenLoggedTwice(sink, random, report) {
  const history = goodHistory(sink, random);
  for (const { id, hash } of history.receipts.slice(-7)) {
    history.durable += 1;
    const again = sink === 'http' ? { lsn: history.durable, key: `orders/${history.durable}` } : {};
    history.receipts.push({ id, hash, processed: true, ...again });
  }
  const { count, figures } = check(history);
  report.check(
    `${sink}: records logged twice are not taken for lost ones`,
    count.I1 === 1 && count.I4 >= 1 && figures.lost === 0 && figures.raw_duplicates >= 7,
    JSON.stringify({ count, figures }),
  );
}
