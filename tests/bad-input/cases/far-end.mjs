// HTTP far ends that refuse, fail, talk nonsense, say nothing, or never finish. The route keeps its records, says what is
// wrong, does not hold up its neighbour, and delivers everything in order once the far end is well.

import { startReceiver } from '../../crash/lib/far-end.mjs';
import { readReceipts } from '../../crash/lib/history.mjs';
import { freePort } from '../../crash/lib/sandbox.mjs';
import { until } from '../../crash/lib/wait.mjs';
import { expect, expectDelivered, putLines, routeStatus, runningGate } from '../lib/case.mjs';

const RECORDS = 20;

/** How the far end behaves, what the status must say about it, and under which code. */
const SICK = [
  ['answers 400', '400', /400/, 'ERR_ELGATE_DELIVERY_REFUSED'],
  ['answers 404', '404', /404/, 'ERR_ELGATE_DELIVERY_REFUSED'],
  ['answers 500', '500', /500/],
  ['answers 503', '503', /503/],
  ['answers garbage', 'garbage', /./],
  ['accepts and says nothing', 'silence', /within|time/i],
  ['dribbles a head that never ends', 'dribble', /within|time|head/i],
  ['never ends its body', 'endless', /time|body|large|limit/i],
];

async function heals(sandbox, gate, port, resume = () => {}) {
  const journal = sandbox.path('healed.journal');
  await startReceiver(sandbox, { journal, port });
  await resume();
  const count = gate.expected.hooks.length;
  const receipts = () => readReceipts(journal, 'hooks').receipts;
  await until(`${count} records at the healed far end`, () => new Set(receipts().map(({ lsn }) => lsn)).size >= count, {
    everyMs: 10,
    abort: () => gate.daemon.deathReason(),
  });
  const order = [...new Set(receipts().map(({ lsn }) => lsn))];
  expect(
    order.every((lsn, index) => lsn === index + 1),
    `not in order: ${order}`,
  );
  const row = await statusThat(
    gate,
    'the route to say that it runs',
    ({ state, lag_records }) => state === 'running' && lag_records === 0,
  );
  expect(row.delivered_lsn === count, JSON.stringify(row));
}

/** Waits until the status of route `hooks` is as described; the status. */
const statusThat = (gate, what, condition) =>
  until(
    what,
    async () => {
      const status = await routeStatus(gate, 'hooks');
      return condition(status) ? status : undefined;
    },
    { everyMs: 20, abort: () => gate.daemon.deathReason() },
  );

export const cases = [
  ...SICK.map(([title, always, words, code]) => ({
    title: `http: a far end that ${title}`,
    async run(sandbox) {
      const receiver = await startReceiver(sandbox, { always });
      const gate = await runningGate(sandbox, {
        more: { hooks: { sink: 'http', url: receiver.url, timeout_ms: 400 } },
      });
      await putLines(sandbox, gate, RECORDS, { route: 'hooks' });
      const row = await statusThat(
        gate,
        'the status to say what is wrong',
        (status) => status.state === 'retrying' && status.last_error && status.retries_total >= 2,
      );
      expect(words.test(row.last_error.message), `status does not say ${words}: ${row.last_error.message}`);
      expect(code === undefined || row.last_error.code === code, JSON.stringify(row.last_error));
      expect(row.state === 'retrying' && row.delivered_lsn === 0 && row.lag_records === RECORDS, JSON.stringify(row));
      // The neighbour is not held up meanwhile.
      await putLines(sandbox, gate, RECORDS);
      await expectDelivered(gate);
      await receiver.stop();
      await heals(sandbox, gate, receiver.port);
    },
  })),
  {
    title: 'http: a far end that is not there',
    async run(sandbox) {
      const port = await freePort();
      const gate = await runningGate(sandbox, {
        more: { hooks: { sink: 'http', url: `http://127.0.0.1:${port}/in` } },
      });
      await putLines(sandbox, gate, RECORDS, { route: 'hooks' });
      const row = await statusThat(gate, 'the status to say what is wrong', (status) => status.last_error);
      expect(/refused|connect/i.test(row.last_error.message), row.last_error.message);
      await heals(sandbox, gate, port);
    },
  },
  {
    title: 'http: attempts used up: the route stops aloud, and goes on when it is resumed',
    async run(sandbox) {
      const receiver = await startReceiver(sandbox, { always: '410' });
      const retry = { initial_ms: 1, max_ms: 5, max_attempts: 3 };
      const gate = await runningGate(sandbox, { more: { hooks: { sink: 'http', url: receiver.url, retry } } });
      await putLines(sandbox, gate, RECORDS, { route: 'hooks' });
      const row = await statusThat(gate, 'the route to stop', ({ state }) => state === 'stopped');
      expect(
        /410/.test(row.last_error.message) && /resume/.test(row.last_error.message),
        JSON.stringify(row.last_error),
      );
      expect(row.lag_records === RECORDS, JSON.stringify(row));
      await receiver.stop();
      await heals(sandbox, gate, receiver.port, async () => {
        const { status, text } = await gate.daemon.post('/routes/hooks/resume');
        expect(status === 200, `resume: ${status} ${text}`);
      });
    },
  },
];
