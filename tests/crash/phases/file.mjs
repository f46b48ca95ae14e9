// Phase `file`: the whole access log through `elgate put` into a file route, the daemon killed at random all the while.
// At the end the file is the log, byte for byte.

import fs from 'node:fs';
import { check, describe } from '../checker.mjs';
import { Assassin } from '../lib/assassin.mjs';
import { Feed } from '../lib/feed.mjs';
import { makeGate } from '../lib/gate.mjs';
import { digestOf, eventsOfPut, idsByHash, receiptsOfFile } from '../lib/history.mjs';

const ROUTE = 'access';
/** More kills than these may not be counted before the run gives up: nothing flowed. */
const IDLE_KILLS_MAX = 200;
const OPEN_FILES_MAX = 128;

export async function run({ sandbox, random, report, lines, kills }) {
  const gate = await makeGate(sandbox, {
    routes: { [ROUTE]: { sink: 'file', path: 'access.log', segment_bytes: 4 << 20 } },
  });
  const { daemon } = gate;
  await daemon.start().ready();
  const feed = new Feed(sandbox, { config: gate.config, route: ROUTE, lines });
  const output = gate.outputOf(ROUTE);

  // Half of what is left for the kills that are left, so that there is always something left for the last one.
  const share = () => Math.max(2, Math.floor(feed.left / (2 * Math.max(1, kills - assassin.counted))));
  const assassin = new Assassin({
    daemon,
    random,
    progress: () => gate.durable(ROUTE),
    outstanding: () => feed.fed - gate.durable(ROUTE),
    burst: () => feed.give(random.int(1, Math.max(1, Math.floor(share() / 2)))),
    abort: () => daemon.deathReason() ?? feed.deathReason(),
    step: 200,
  });
  while (assassin.counted < kills && assassin.kills.idle < IDLE_KILLS_MAX && feed.left > 0) await assassin.strike();
  await daemon.ready();
  const openFiles = daemon.openFiles();

  const { code, summary, story } = await feed.finish();
  report.check('put ended with success', code === 0, story);
  report.check(
    'put says that every line is durable',
    summary?.sent === lines.count &&
      summary?.acked === lines.count &&
      summary?.level === 'durable' &&
      summary?.route === ROUTE,
    `expected ${lines.count} sent and acked, got ${story}`,
  );
  await gate.drained();
  report.check(
    'the file is byte-identical to the log',
    fs.readFileSync(output).equals(lines.buffer),
    differenceOf(output, lines),
  );

  // Recover from the same log again, twice: after a kill when all is done, and after an orderly stop.
  const recovered = [{ label: 'the run', digest: digestOf(output) }];
  await daemon.kill();
  await daemon.start().ready();
  await gate.drained();
  recovered.push({ label: 'a recovery after a kill at rest', digest: digestOf(output) });
  const stopped = await daemon.stop();
  report.check(
    'SIGTERM drains and ends with 0',
    stopped.code === 0,
    `${stopped.signal ?? `exit ${stopped.code}`}:\n${sandbox.tailOf(daemon.log)}`,
  );
  await daemon.start().ready();
  await gate.drained();
  recovered.push({ label: 'a start after an orderly stop', digest: digestOf(output) });

  const events = eventsOfPut(lines, summary?.acked ?? 0);
  const result = check({
    route: ROUTE,
    sink: 'file',
    events,
    receipts: receiptsOfFile(output, idsByHash(events)),
    durable: gate.durable(ROUTE),
    injected: assassin.counted,
    recovered,
    resumed: assassin.resumed,
    leaks: [{ what: 'open files of the daemon after the last restart', value: openFiles, limit: OPEN_FILES_MAX }],
  });
  report.check(
    `${kills} kills landed while data flowed`,
    assassin.counted >= kills,
    `only ${assassin.counted}: NOT MEASURED`,
  );
  report.check(
    'nothing lost, reordered, altered or doubled',
    result.measured && result.violations.length === 0,
    describe(result),
  );
  report.figures({ ...result.figures, kills: assassin.kills, put: summary });
  report.note(
    `kills: ${assassin.kills.flow} in flow, ${assassin.kills.recovery} in recovery, ${assassin.kills.idle} not counted`,
  );
  report.note(describe(result));
  await daemon.stop();
}

function differenceOf(output, lines) {
  const actual = fs.existsSync(output) ? fs.readFileSync(output) : Buffer.alloc(0);
  const length = Math.min(actual.length, lines.buffer.length);
  let at = 0;
  while (at < length && actual[at] === lines.buffer[at]) at += 1;
  const line = lines.starts.findIndex((start) => start > at);
  return `${actual.length} bytes instead of ${lines.buffer.length}; the first difference is at byte ${at}, line ${line}`;
}
