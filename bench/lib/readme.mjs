// The latest figures in bench/README.md: written by the run that measured them.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/lib/paths.mjs';
import { backendMatrix, figures, machineLine } from './table.mjs';

const README = join(root, 'bench/README.md');

/** Options that only say how the result is shown. */
const SHOWING = new Set(['--json', '--write-readme', '--plots']);

const PLOTS = [
  '![Distribution of the time that one durable append takes](../docs/internals/append-latency.svg)',
  '![Durable records and megabytes a second](../docs/internals/throughput.svg)',
  '![Latency against offered load](../docs/internals/offered-load.svg)',
  '![The log on each I/O backend](../docs/internals/backends.svg)',
].join('\n\n');

/** Replaces what stands between the markers of the case. */
export function writeReadme(result, argv, plots) {
  const [begin, end] = ['begin', 'end'].map((side) => `<!-- ${side} ${result.case} -->`);
  const text = readFileSync(README, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`bench/README.md has no place for the case ${result.case}: ${begin}`);
  writeFileSync(
    README,
    `${text.slice(0, from + begin.length)}\n\n${section(result, argv, plots)}\n\n${text.slice(to)}`,
  );
}

function section(result, argv, plots) {
  const today = new Date().toISOString().slice(0, 10);
  const command = ['npm run -s bench --', ...argv.filter((word) => !SHOWING.has(word))].join(' ');
  const parts = [
    `\`${command}\`, ${result.rounds} rounds, of ${today}: ${machineLine(result.machine)}.`,
    figures(result),
  ];
  if (plots) parts.splice(1, 0, PLOTS);
  if (result.backends) parts.push(backendMatrix(result));
  if (result.notes?.length > 0) parts.push(result.notes.map((note) => `* ${note}`).join('\n'));
  return parts.join('\n\n');
}
