// Phase `http`: part of the access log into an HTTP route whose far end is a real server in another process that errs,
// dawdles, hangs up and talks nonsense, while the daemon is killed at random. Everything arrives, in order at first
// sight, and what arrives twice arrives under the same key.

import { check, describe } from '../checker.mjs';
import { Assassin } from '../lib/assassin.mjs';
import { startReceiver } from '../lib/far-end.mjs';
import { Feed } from '../lib/feed.mjs';
import { makeGate } from '../lib/gate.mjs';
import { eventsOfPut, idsByHash, readReceipts } from '../lib/history.mjs';

const ROUTE = 'hooks';
const IDLE_KILLS_MAX = 100;
const FAULTS = { error: 0.01, slow: 0.003, drop_before: 0.004, drop_after: 0.006, garbage: 0.003, cut: 0.003 };

export async function run({ sandbox, random, report, lines, kills }) {
  const receiver = await startReceiver(sandbox, { seed: random.int(1, 1e6), faults: FAULTS });
  const gate = await makeGate(sandbox, {
    routes: { [ROUTE]: { sink: 'http', url: receiver.url, segment_bytes: 4 << 20, timeout_ms: 5_000 } },
  });
  const { daemon } = gate;
  await daemon.start().ready();
  const feed = new Feed(sandbox, { config: gate.config, route: ROUTE, lines });
  const share = () => Math.max(2, Math.floor(feed.left / (2 * Math.max(1, kills - assassin.counted))));
  const assassin = new Assassin({
    daemon,
    random,
    progress: () => receiver.received(),
    outstanding: () => feed.fed - (gate.head(ROUTE)?.delivered ?? 0),
    burst: () => feed.give(random.int(1, Math.max(1, Math.floor(share() / 2)))),
    trickle: () => feed.give(random.int(1, 8)),
    abort: () => daemon.deathReason() ?? feed.deathReason(),
    // A receipt takes about 60 bytes of the journal.
    step: 60 * 40,
  });
  while (assassin.counted < kills && assassin.kills.idle < IDLE_KILLS_MAX && feed.left > 0) await assassin.strike();
  await daemon.ready();

  const { code, summary, story } = await feed.finish();
  report.check(
    'put ended with every line durable',
    code === 0 && summary?.acked === lines.count && summary?.sent === lines.count,
    story,
  );
  await gate.drained();

  // Recover once more with nothing left to do: at most honest duplicates may come, and no new record.
  const keysOf = () =>
    new Set(
      readReceipts(receiver.journal, ROUTE)
        .receipts.filter(({ processed }) => processed)
        .map(({ key }) => key),
    );
  const recovered = [{ label: 'the run', digest: `${keysOf().size} keys` }];
  await daemon.kill();
  await daemon.start().ready();
  await gate.drained();
  recovered.push({ label: 'a recovery at rest', digest: `${keysOf().size} keys` });
  await daemon.stop();

  const events = eventsOfPut(lines, summary?.acked ?? 0);
  const { receipts, how } = readReceipts(receiver.journal, ROUTE, idsByHash(events));
  const result = check({
    route: ROUTE,
    sink: 'http',
    events,
    receipts,
    durable: gate.durable(ROUTE),
    injected: assassin.counted,
    recovered,
    resumed: assassin.resumed,
  });
  report.check(
    `${kills} kills landed while deliveries flowed`,
    assassin.counted >= kills,
    `only ${assassin.counted}: NOT MEASURED`,
  );
  report.check(
    'the far end showed every fault',
    Object.keys(FAULTS).every((fault) => how[fault] > 0),
    `it answered ${JSON.stringify(how)}`,
  );
  report.check(
    'delivered in order, duplicates only under their own key',
    result.measured && result.violations.length === 0,
    describe(result),
  );
  report.figures({
    ...result.figures,
    kills: { ...assassin.kills, in_flow: assassin.counted },
    answers: how,
    put: summary,
  });
  report.note(
    `kills: ${assassin.kills.flow} in flow, ${assassin.kills.recovery} in recovery, ${assassin.kills.idle} not counted`,
  );
  report.note(describe(result));
}
