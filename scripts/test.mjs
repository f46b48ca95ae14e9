#!/usr/bin/env node
// `npm test`: everything, one step after the other, ending with `N passed, N failed, N skipped`.
//
//   npm test -- --list                  the steps
//   npm test -- --only rust,layout      some of them, with what they need

import { BuildFailed } from './lib/build.mjs';
import { endChildrenOnSignal, run } from './lib/process.mjs';
import { bold, duration, fail, green, heading, red, secondsSince, yellow } from './lib/report.mjs';
import { MissingTool, requireBuildTools } from './lib/tools.mjs';
import { countsOf, format, none, sum } from './test/counts.mjs';
import { Skip } from './test/skip.mjs';
import { STEPS } from './test/steps.mjs';

const USAGE = 'usage: npm test [-- --list | --only STEP[,STEP...]]';

function selection(args) {
  if (args.length === 0) return STEPS;
  if (args[0] === '--list' && args.length === 1) {
    for (const { name, title } of STEPS) console.log(`${name.padEnd(20)} ${title}`);
    process.exit(0);
  }
  if (args[0] !== '--only' || args.length !== 2) fail(USAGE);
  const wanted = new Set();
  const want = (name) => {
    const step = STEPS.find((candidate) => candidate.name === name);
    if (step === undefined) fail(`no step is called '${name}'; npm test -- --list names them`);
    wanted.add(step);
    for (const need of step.needs ?? []) want(need);
  };
  for (const name of args[1].split(',')) want(name);
  return STEPS.filter((step) => wanted.has(step));
}

/** Runs one step. Whatever it does, the outcome is counts and a reason, never an exception. */
async function perform(step, results, context) {
  const missing = (step.needs ?? []).find((need) => results.get(need)?.isMissing);
  if (missing !== undefined) return { ...none(), skipped: 1, reason: `not run without '${missing}'`, isMissing: true };
  try {
    const outcome = await step.run(context);
    const counts = countsOf(step.counts ?? 'check', outcome ?? { ok: true, text: '', reason: '' });
    return { ...counts, isMissing: counts.failed > 0 };
  } catch (error) {
    if (error instanceof Skip) return { ...none(), skipped: 1, reason: error.message, isMissing: true };
    if (!(error instanceof BuildFailed)) console.error(error);
    return { ...none(), failed: 1, reason: error.message.split('\n')[0], isMissing: true };
  }
}

function summary(results) {
  heading('Summary');
  for (const [name, { passed, failed, skipped, seconds, reason }] of results) {
    const mark = failed > 0 ? red('failed ') : passed === 0 && skipped > 0 ? yellow('skipped') : green('passed ');
    const counts = format({ passed, failed, skipped });
    console.log(
      `${mark} ${name.padEnd(20)} ${counts.padEnd(40)} ${duration(seconds).padStart(12)}  ${reason}`.trimEnd(),
    );
  }
}

endChildrenOnSignal();
const steps = selection(process.argv.slice(2));
try {
  await requireBuildTools();
} catch (error) {
  if (error instanceof MissingTool) fail(error.message);
  throw error;
}

const results = new Map();
const context = { run, missingPrograms: [] };
const begin = process.hrtime.bigint();
for (const step of steps) {
  heading(`${step.name}: ${step.title}`);
  const start = process.hrtime.bigint();
  const result = { ...(await perform(step, results, context)), seconds: secondsSince(start) };
  results.set(step.name, result);
  const word =
    result.failed > 0 ? red('FAILED') : result.passed === 0 && result.skipped > 0 ? yellow('SKIPPED') : green('ok');
  const why = result.reason ? `: ${result.reason}` : '';
  console.log(`${bold(step.name)} ${word}${why} (${duration(result.seconds)})`);
}

summary(results);
const total = [...results.values()].reduce(sum, none());
console.log(`\nin ${duration(secondsSince(begin))}`);
console.log(format(total));
process.exit(total.failed > 0 ? 1 : 0);
