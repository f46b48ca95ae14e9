#!/usr/bin/env node
// `npm run soak -- --minutes N [--seed N]`: kills, power cuts, faults, flipped bits and simulated lives in turn, for N
// minutes, each turn with another seed. What came of it is added to docs/internals/ledger.json, and the table in
// docs/internals/evidence.md made anew. Ctrl-C ends it early and writes down what was done. Exit 1 if a promise broke.

import { parseArgs } from 'node:util';
import { BuildFailed, buildNative, buildTypeScript, installPackages } from './lib/build.mjs';
import { duration, fail, green, heading, red } from './lib/report.mjs';
import { endChore, makeChores } from './soak/chores.mjs';
import { addRun, describeRun, newRun } from './soak/ledger.mjs';

const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) fail('usage: npm run soak -- --minutes N [--seed N]');
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 30) : Number(values.seed);
if (!Number.isInteger(seed) || seed < 1) fail(`--seed wants a whole number above 0, not ${values.seed}`);

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (interrupted) process.exit(130);
    interrupted = true;
    console.log('\nending: what is under way is taken down, what was done is written down (again to stop at once)');
    endChore();
  });
}

try {
  await installPackages();
  await buildTypeScript();
  await buildNative('release');
  await buildNative('failpoints');
} catch (error) {
  if (error instanceof BuildFailed) fail(error.message);
  throw error;
}

heading(`Soak: ${minutes} minutes, seed ${seed}`);
const run = await newRun(seed);
const chores = await makeChores({ seed, isLong: minutes >= 10 });
const begin = process.hrtime.bigint();
const elapsed = () => Number(process.hrtime.bigint() - begin) / 1e9;

for (let turn = 0; !interrupted && elapsed() < minutes * 60; turn += 1) {
  const chore = chores[turn % chores.length];
  const start = elapsed();
  console.log(`[${duration(start)} of ${minutes} min] ${chore.name} ...`);
  const outcome = await chore.perform(turn);
  if (interrupted && !outcome.isComplete) break;
  run.take(outcome);
  const word =
    outcome.failed.length > 0 ? red('FAILED') : outcome.skipped ? `skipped: ${outcome.skipped}` : green('ok');
  console.log(`    ${word} in ${duration(elapsed() - start)}: ${run.line()}`);
  for (const { story, command } of outcome.failed) console.log(red(`    ${story}\n      again: ${command}`));
}

const entry = run.close(elapsed() / 60);
const place = addRun(entry);
console.log(`\n${describeRun(entry)}\nwritten to ${place}`);
process.exit(entry.failed_checks > 0 ? 1 : 0);
