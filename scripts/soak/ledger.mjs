// The ledger: what all soaks have done and found, run by run, in docs/internals/ledger.json; and the table that
// docs/internals/evidence.md shows of it, between its two markers.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { root } from '../lib/paths.mjs';
import { capture } from '../lib/process.mjs';

const LEDGER = join(root, 'docs/internals/ledger.json');
const PAGE = join(root, 'docs/internals/evidence.md');
const MARKS = ['<!-- ledger: begin -->', '<!-- ledger: end -->'];
/** `npm test` goes through the first ones. */
const SIMULATION_SEED_FIRST = 1_000_000;
/** So much is kept of what failed in a run: enough to know it again, and to do it again. */
const FAILURES_MAX = 20;
const STORY_CHARACTERS_MAX = 1_000;
/** The routes of the kill and fault tests, and what a second delivery means there. */
const FILE_ROUTE = 'orders';
const HTTP_ROUTE = 'hooks';

const readLedger = () => (existsSync(LEDGER) ? JSON.parse(readFileSync(LEDGER, 'utf8')) : { runs: [] });

/** The first seed of the simulation that no soak has run yet. */
export function nextSimulationSeed() {
  return Math.max(SIMULATION_SEED_FIRST, ...readLedger().runs.map(({ simulation }) => simulation.next_seed ?? 0));
}

const empty = () => ({
  minutes: 0,
  simulation: { seeds: 0, deaths: 0, power_cuts: 0, acknowledged: 0 },
  kills: {},
  power_cuts: { cuts: 0, dropped: 0, torn: 0 },
  faults: {},
  flips: { flips: 0, harmless: 0, reported: 0, records_lost: 0, silent: 0 },
  operations: { acknowledged: 0, lost: 0, phantom: 0, duplicates: 0, repeats: 0, lost_to_lies: 0 },
  failed_checks: 0,
  not_measured: 0,
});

/** Adds numbers of the same name, also those of nested objects. Whatever else `more` holds is left out. */
function add(sum, more) {
  for (const [name, value] of Object.entries(more)) {
    if (typeof value === 'number') sum[name] = (sum[name] ?? 0) + value;
    else if (value && typeof value === 'object' && !Array.isArray(value)) {
      sum[name] ??= {};
      add(sum[name], value);
    }
  }
  return sum;
}

/** Collects the outcomes of one run: `take(outcome)`, `line()` for the terminal, `close(minutes)` for the ledger. */
export async function newRun(seed) {
  const entry = { at: new Date().toISOString(), ...(await where()), seed, ...empty(), failures: [] };
  return {
    take({ phases, simulation, failed }) {
      entry.failed_checks += failed.length;
      const room = FAILURES_MAX - entry.failures.length;
      for (const { story, command } of failed.slice(0, room))
        entry.failures.push({ story: story.slice(0, STORY_CHARACTERS_MAX), command });
      for (const phase of phases) takePhase(entry, phase);
      if (simulation) {
        const { seeds, deaths, power_cuts, acknowledged_records: acknowledged, next_seed } = simulation;
        add(entry.simulation, { seeds, deaths, power_cuts: power_cuts ?? 0, acknowledged });
        entry.simulation.next_seed = next_seed;
      }
    },
    line: () => summaryOf(entry),
    close: (minutes) => ({ ...entry, minutes: Number(minutes.toFixed(1)) }),
  };
}

function takePhase(entry, { checks, figures }) {
  const { kills, visited, power_cuts: cuts, struck, flips, lost_to_lies: lostToLies = 0 } = figures;
  for (const route of [FILE_ROUTE, HTTP_ROUTE]) {
    const { acked: acknowledged = 0, lost = 0, phantom = 0, raw_duplicates: again = 0 } = figures[route] ?? {};
    const twice = route === FILE_ROUTE ? { duplicates: again } : { repeats: again };
    add(entry.operations, { acknowledged, lost, phantom, ...twice });
  }
  entry.operations.lost_to_lies += lostToLies;
  if (kills?.flow !== undefined)
    add(entry.kills, { 'at random, under load': kills.flow, 'at random, in recovery': kills.recovery });
  if (visited) add(entry.kills, visited);
  if (cuts) add(entry.power_cuts, { cuts: cuts.cuts, dropped: cuts.dropped, torn: cuts.torn });
  if (struck) add(entry.faults, struck);
  if (flips) add(entry.flips, flips);
  entry.not_measured += checks.filter(
    ({ outcome, detail }) => outcome === 'failed' && /NOT MEASURED/.test(detail),
  ).length;
}

const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);
const number = (value) => value.toLocaleString('en-US');

function summaryOf({ simulation, kills, power_cuts: cuts, faults, flips, operations }) {
  const { acknowledged, lost, phantom, duplicates } = operations;
  return (
    `${number(total(kills))} kills, ${number(cuts.cuts)} power cuts, ${number(total(faults))} faults, ` +
    `${number(flips.flips)} flips, ${number(simulation.seeds)} seeds; ${number(acknowledged)} acknowledged, ` +
    `${lost} lost, ${phantom} phantom, ${duplicates} duplicate`
  );
}

export const describeRun = (entry) =>
  `${entry.minutes} minutes: ${summaryOf(entry)}; ${entry.failed_checks} checks failed, ${entry.not_measured} of them not measured`;

/** Writes a run down; returns where. */
export function addRun(entry) {
  const ledger = readLedger();
  ledger.runs.push(entry);
  writeFileSync(LEDGER, `${JSON.stringify(ledger, null, 2)}\n`);
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = MARKS.map((mark) => page.indexOf(mark));
  if (begin < 0 || end < begin) throw new Error(`${PAGE} has lost its markers ${MARKS.join(' and ')}`);
  writeFileSync(PAGE, `${page.slice(0, begin + MARKS[0].length)}\n\n${render(ledger)}\n\n${page.slice(end)}`);
  return `${LEDGER} and ${PAGE}`.replaceAll(`${root}/`, '');
}

/** The tables of the page. */
export function render({ runs }) {
  const sum = runs.reduce(add, empty());
  const { operations, simulation, power_cuts: cuts, flips } = sum;
  const rows = [
    ['runs, minutes', `${runs.length}, ${number(Math.round(sum.minutes))}`],
    [
      'seeds simulated',
      `${number(simulation.seeds)}, with ${number(simulation.deaths)} deaths, ${number(simulation.power_cuts)} of them power cuts`,
    ],
    ['SIGKILLs', number(total(sum.kills))],
    [
      'power cuts on ext4',
      `${number(cuts.cuts)}; unflushed writes dropped: ${number(cuts.dropped)}, torn: ${number(cuts.torn)}`,
    ],
    ['faults injected', number(total(sum.faults))],
    [
      'bits flipped at rest',
      `${number(flips.flips)}; without harm: ${number(flips.harmless)}, reported: ${number(flips.reported)}, silent: **${flips.silent}**`,
    ],
    ['operations acknowledged', number(operations.acknowledged)],
    [
      'of these lost',
      `**${operations.lost}** (beside ${number(operations.lost_to_lies)} on disks told to lie about flushes)`,
    ],
    ['phantom: delivered, never sent', `**${operations.phantom}**`],
    ['twice in a file', `**${operations.duplicates}**`],
    ['repeated over HTTP, under the same key', number(operations.repeats)],
    ['checks failed; of these not measured', `${sum.failed_checks}; ${sum.not_measured}`],
  ];
  const table = (head, body) =>
    [head, head.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  const counts = (object, nameOf = (name) => name) =>
    Object.entries(object)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, count]) => [nameOf(name), number(count)]);
  const words = (name) => name.replaceAll('_', ' ');
  return [
    table(['what', 'in all runs'], rows),
    table(['killed', 'times'], counts(sum.kills)),
    table(['fault', 'struck'], counts(sum.faults, words)),
    table(
      ['run', 'commit', 'machine', 'minutes', 'what', 'failed'],
      runs.map((run) => [run.at.slice(0, 16), run.commit, run.machine, run.minutes, summaryOf(run), run.failed_checks]),
    ),
    ...failuresOf(runs),
  ].join('\n\n');
}

/** What failed, run by run. Early runs have only kept how many checks did. */
function failuresOf(runs) {
  const code = (text) => text.split('\n').map((line) => `    ${line}`.trimEnd());
  return runs
    .filter(({ failures = [] }) => failures.length > 0)
    .map(({ at, seed, failures }) => {
      const stories = failures.flatMap(({ story, command }) => [...code(story), ...code(`again: ${command}`)]);
      return [`Failed in the run of ${at.slice(0, 16)}, seed ${seed}:`, '', ...stories].join('\n');
    });
}

async function where() {
  const git = (...args) => capture('git', args, { cwd: root });
  const commit = (await git('rev-parse', '--short=12', 'HEAD')) ?? 'unknown';
  const changes = await git('status', '--porcelain', '--untracked-files=no', '--', ':!docs');
  const [cpu] = os.cpus();
  return {
    commit: changes ? `${commit}+changes` : commit,
    machine: `${os.cpus().length} x ${cpu?.model.trim() ?? os.arch()}, Linux ${os.release()}, Node ${process.version}`,
  };
}
