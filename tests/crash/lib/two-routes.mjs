// The end of every phase with several producers: one file route and one HTTP route, drained, recovered twice, checked.

import fs from 'node:fs';
import path from 'node:path';
import { check, describe } from '../checker.mjs';
import { digestOf, readJournals, readReceipts, receiptsOfFile } from './history.mjs';
import { landedInFlow } from './moments.mjs';

export const FILE_ROUTE = 'orders';
export const HTTP_ROUTE = 'hooks';

/** `more` settings go to both. */
export const routesFor = (receiver, more = {}) => ({
  [FILE_ROUTE]: { sink: 'file', path: 'orders.log', segment_bytes: 4 << 20, ...more },
  [HTTP_ROUTE]: { sink: 'http', url: receiver.url, segment_bytes: 4 << 20, timeout_ms: 5_000, ...more },
});

const OPEN_FILES_MAX = 256;
/** Participants that ever ran at the same time, with room for those whose death was noticed late. */
const COMPLETION_RINGS_MAX = 32;

/** The daemon runs and the producers have finished. Drains, recovers again, and reports on both routes. */
export async function conclude({ report, gate, receiver, pool, faults, resumed, openFiles }) {
  const { daemon } = gate;
  const output = gate.outputOf(FILE_ROUTE);
  await gate.drained();
  const keys = () => {
    const { receipts } = readReceipts(receiver.journal, HTTP_ROUTE);
    return `${new Set(receipts.filter(({ processed }) => processed).map(({ key }) => key)).size} keys`;
  };
  const states = { [FILE_ROUTE]: [], [HTTP_ROUTE]: [] };
  const note = (label) => {
    states[FILE_ROUTE].push({ label, digest: digestOf(output) });
    states[HTTP_ROUTE].push({ label, digest: keys() });
  };
  note('the run');
  await daemon.kill();
  await daemon.start().ready();
  await gate.drained();
  note('a recovery after a kill at rest');
  await daemon.stop();
  await daemon.start().ready();
  await gate.drained();
  note('a start after an orderly stop');
  const completionRings = fs
    .readdirSync('/dev/shm')
    .filter((name) => name.startsWith(`${path.basename(gate.ring)}.ack.`)).length;
  await daemon.stop();

  const journals = readJournals(pool.journals);
  const all = [...journals.values()].flat().sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const injected = landedInFlow(faults, all);
  const { receipts, how } = readReceipts(receiver.journal, HTTP_ROUTE);
  const leaks = [
    { what: 'open files of the daemon after the last restart', value: openFiles, limit: OPEN_FILES_MAX },
    { what: 'completion rings in shared memory after the run', value: completionRings, limit: COMPLETION_RINGS_MAX },
  ];
  for (const [route, sink, arrived] of [
    [FILE_ROUTE, 'file', receiptsOfFile(output)],
    [HTTP_ROUTE, 'http', receipts],
  ]) {
    const result = check({
      route,
      sink,
      events: journals.get(route) ?? [],
      receipts: arrived,
      durable: gate.durable(route),
      injected,
      recovered: states[route],
      resumed,
      leaks,
    });
    report.check(`${sink} route: I1 to I8 hold`, result.measured && result.violations.length === 0, describe(result));
    report.figures({ [route]: result.figures });
    report.note(`${route}: ${describe(result)}`);
  }
  report.figures({ answers: how, faults: faults.length, faults_in_flow: injected, completion_rings: completionRings });
  return injected;
}
