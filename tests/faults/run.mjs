// Fault tests: the real daemon on a real ext4 whose disk loses power, fails, lies and dawdles, and in processes that
// are stopped, starved of descriptors, file size or lockable memory.
//
//   node tests/faults/run.mjs [CASE...] [--cuts N] [--flips N] [--seed N] [--json] [--list]
//
// Every case injects its fault under load, counts what struck, and has the checker of tests/crash look at what the
// producers wrote down elsewhere. A case in which nothing struck is NOT MEASURED, which is a failure. `--cuts` is the
// number of power cuts in all, `--flips` that of flipped bits. Ends with "N passed, N failed, N skipped"; exit 1 if anything failed.

import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { Random } from '../crash/lib/random.mjs';
import { Report } from '../crash/lib/report.mjs';
import { CLI, closeOnExit, realDirectory, Sandbox } from '../crash/lib/sandbox.mjs';
import { now } from '../crash/lib/wait.mjs';
import { CASES } from './cases/index.mjs';
import { Lacking } from './lib/lacking.mjs';

/** Cases at a time: most of them wait for the disk, or for somebody to notice. */
const AT_ONCE = 2;

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      cuts: { type: 'string', default: '200' },
      flips: { type: 'string', default: '12' },
      seed: { type: 'string' },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  const unknown = positionals.find((name) => !CASES[name]);
  if (unknown) throw new Error(`no case is called ${unknown}; there are ${Object.keys(CASES).join(', ')}`);
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${name} wants a whole number above 0, not ${values[name]}`);
    return value;
  };
  return {
    ...values,
    chosen: positionals.length > 0 ? positionals : Object.keys(CASES),
    cuts: number('cuts'),
    flips: number('flips'),
    seed: values.seed === undefined ? newSeed() : number('seed'),
  };
}

const newSeed = () => Number(process.hrtime.bigint() & 0x3fffffffn) ^ process.pid || 1;

/** Runs a case with a report of its own, shown when it is over: others run at the same time. */
async function perform(name, context) {
  const lines = [];
  const report = new Report((line) => lines.push(line));
  report.begin(name);
  const sandbox = new Sandbox('faults');
  const started = now();
  try {
    await CASES[name].run({ ...context, report, sandbox });
  } catch (error) {
    if (error instanceof Lacking) report.skip(name, error.message);
    else report.fail(`case ${name} came to its end`, error.stack);
  } finally {
    await sandbox.close();
  }
  const seconds = Number(((now() - started) / 1000).toFixed(1));
  report.figures({ seconds });
  report.note(`${seconds} s`);
  return { report, lines };
}

const { chosen, json, list, cuts, flips, seed } = options();
if (list) {
  for (const [name, { title }] of Object.entries(CASES)) console.log(`${name.padEnd(24)} ${title}`);
  process.exit(0);
}
closeOnExit();
const report = new Report(json ? console.error : console.log);
if (!fs.existsSync(CLI)) throw new Error(`${CLI} is missing: build it first with npm start or npm test`);
report.write(`seed ${seed}, in ${realDirectory(report.write)}`);
const random = new Random(seed);
const waiting = [...chosen];
const work = async () => {
  for (let name = waiting.shift(); name; name = waiting.shift()) {
    const done = await perform(name, { cuts, flips, random: random.fork(name) });
    for (const line of done.lines) report.write(line);
    report.merge(done.report);
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, work));

report.write(`\nseed ${seed}`);
if (json) console.log(JSON.stringify({ seed, ...report.counts, phases: report.phases }, null, 2));
report.write(report.closing);
process.exitCode = report.counts.failed > 0 ? 1 : 0;
