// Phase `file`: the whole access log through `elgate put` into a file route, the daemon killed at random all the while.
// Most of it flows through one put that lives through all kills, its input paced so that they land inside; the end goes
// as files, one put each, as a user would type it. At the end the output is the log, byte for byte.

import fs from 'node:fs';
import { check, describe } from '../checker.mjs';
import { Assassin } from '../lib/assassin.mjs';
import { Feed } from '../lib/feed.mjs';
import { makeGate } from '../lib/gate.mjs';
import { digestOf, eventsOfPut, idsByHash, receiptsOfFile } from '../lib/history.mjs';
import { sleep } from '../lib/wait.mjs';

const ROUTE = 'access';
const FILES = 8;
const FILE_LINES = 2_500;
/** More kills than these may not be wasted before the run gives up: nothing flowed. */
const IDLE_KILLS_MAX = 200;
const OPEN_FILES_MAX = 128;
/** A put of a file takes about this long from its start to its end when nothing disturbs it. */
const PUT_MS = 250;

export async function run({ sandbox, random, report, lines, kills }) {
  const gate = await makeGate(sandbox, {
    routes: { [ROUTE]: { sink: 'file', path: 'access.log', segment_bytes: 4 << 20 } },
  });
  const { daemon } = gate;
  await daemon.start().ready();
  const output = gate.outputOf(ROUTE);

  const flowing = lines.count - FILES * FILE_LINES;
  const { assassin, acked } = await throughOnePut({
    sandbox,
    random,
    report,
    gate,
    kills,
    lines: lines.slice(0, flowing),
  });
  const openFiles = daemon.openFiles();
  const ofFiles = await throughFiles({ sandbox, random, report, gate, lines, from: flowing });
  await daemon.ready();
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

  const events = eventsOfPut(lines, acked + ofFiles.acked);
  const injected = assassin.counted + ofFiles.kills;
  const result = check({
    route: ROUTE,
    sink: 'file',
    events,
    receipts: receiptsOfFile(output, idsByHash(events)),
    durable: gate.durable(ROUTE),
    injected,
    recovered,
    resumed: assassin.resumed,
    leaks: [{ what: 'open files of the daemon after the last restart', value: openFiles, limit: OPEN_FILES_MAX }],
  });
  report.check(`${kills} kills landed while data flowed`, injected >= kills, `only ${injected}: NOT MEASURED`);
  report.check(
    'nothing lost, reordered, altered or doubled',
    result.measured && result.violations.length === 0,
    describe(result),
  );
  report.figures({ ...result.figures, kills: { ...assassin.kills, files: ofFiles.kills, in_flow: injected } });
  report.note(
    `kills: ${assassin.kills.flow} in flow, ${assassin.kills.recovery} in recovery, ${ofFiles.kills} during puts of files, ${assassin.kills.idle} not counted`,
  );
  report.note(describe(result));
  await daemon.stop();
}

/** One put, its input paced by the kills. */
async function throughOnePut({ sandbox, random, report, gate, lines, kills }) {
  const { daemon } = gate;
  const feed = new Feed(sandbox, { config: gate.config, route: ROUTE, lines });
  // Half of what is left for the kills that are left, so that there is always something left for the last one.
  const share = () => Math.max(2, Math.floor(feed.left / (2 * Math.max(1, kills - assassin.counted))));
  const assassin = new Assassin({
    daemon,
    random,
    progress: () => gate.durable(ROUTE),
    outstanding: () => feed.fed - gate.durable(ROUTE),
    burst: () => feed.give(random.int(1, Math.max(1, Math.floor(share() / 2)))),
    trickle: () => feed.give(random.int(1, 8)),
    abort: () => daemon.deathReason() ?? feed.deathReason(),
    step: 200,
  });
  while (assassin.counted < kills && assassin.kills.idle < IDLE_KILLS_MAX && feed.left > 0) await assassin.strike();
  await daemon.ready();

  const { code, summary, story } = await feed.finish();
  report.check('put ended with success', code === 0, story);
  report.check(
    'put says that every line is durable',
    saysAllDurable(summary, lines.count),
    `${lines.count} lines: ${story}`,
  );
  return { assassin, acked: summary?.acked ?? 0 };
}

/** `elgate put access FILE --json`, one after the other, the daemon killed once during each. */
async function throughFiles({ sandbox, random, report, gate, lines, from }) {
  const { daemon } = gate;
  let kills = 0;
  let acked = 0;
  const problems = [];
  for (let number = 0; number < FILES; number += 1) {
    const start = from + number * FILE_LINES;
    const file = sandbox.path(`slice-${number}.log`);
    fs.writeFileSync(file, lines.bytes(start, start + FILE_LINES));
    await daemon.ready();
    const put = () => sandbox.cli(['put', ROUTE, file, '--json', '--config', gate.config]);
    const first = put();
    await sleep(random.int(0, PUT_MS));
    if (gate.durable(ROUTE) < start + FILE_LINES) kills += 1;
    await daemon.kill();
    daemon.start();
    let { code, stdout, stderr } = await first;
    if (code !== 0 && stderr.includes('ERR_ELGATE_DAEMON_UNAVAILABLE') && gate.durable(ROUTE) === start) {
      // It came while there was no daemon, said so, and sent nothing: the user tries again.
      await daemon.ready();
      ({ code, stdout, stderr } = await put());
    }
    const summary = code === 0 ? JSON.parse(stdout) : undefined;
    acked += summary?.acked ?? 0;
    if (!saysAllDurable(summary, FILE_LINES)) problems.push(`file ${number}: exit ${code}: ${stdout}${stderr}`);
  }
  report.check('puts of files say that every line is durable', problems.length === 0, problems[0]);
  return { kills, acked };
}

const saysAllDurable = (summary, count) =>
  summary?.route === ROUTE && summary.sent === count && summary.acked === count && summary.level === 'durable';

function differenceOf(output, lines) {
  const actual = fs.existsSync(output) ? fs.readFileSync(output) : Buffer.alloc(0);
  const length = Math.min(actual.length, lines.buffer.length);
  let at = 0;
  while (at < length && actual[at] === lines.buffer[at]) at += 1;
  const line = lines.starts.findIndex((start) => start > at);
  return `${actual.length} bytes instead of ${lines.buffer.length}; the first difference is at byte ${at}, line ${line}`;
}
