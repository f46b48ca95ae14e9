// Crash tests: the real daemon, real data, real processes, and SIGKILL.
//
//   node tests/crash/run.mjs [--kills N] [--seed N] [--json] [--only PHASE[,PHASE...]]
//
// Phases: checker (the checker against known violations), file, http, producers, storm, sites. `--kills` is the number
// of kills in the file phase; the others take a share or a multiple of it, 1,000 in all by default. The same seed makes the same plan; what the processes make of
// it depends on the machine. Ends with "N passed, N failed, N skipped"; exit 1 if anything failed.

import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { makeAccessLog, missingTools } from './lib/access-log.mjs';
import { Random } from './lib/random.mjs';
import { Report } from './lib/report.mjs';
import { CLI, closeOnExit, realDirectory, Sandbox } from './lib/sandbox.mjs';
import { now } from './lib/wait.mjs';
import * as checker from './phases/checker.mjs';
import * as file from './phases/file.mjs';
import * as http from './phases/http.mjs';
import * as producers from './phases/producers.mjs';
import * as sites from './phases/sites.mjs';
import * as storm from './phases/storm.mjs';

const LINES = 200_000;
const HTTP_LINES = 20_000;
/** Kills of the storm for each of the file phase. */
const STORM_MULTIPLE = 8;
const PHASES = { checker, file, http, producers, storm, sites };
const NEEDS_LOG = new Set(['file', 'http']);

function options() {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '104' },
      seed: { type: 'string' },
      json: { type: 'boolean', default: false },
      only: { type: 'string' },
    },
  });
  const wanted = values.only?.split(',') ?? Object.keys(PHASES);
  const unknown = wanted.find((phase) => !PHASES[phase]);
  if (unknown) throw new Error(`no phase is called ${unknown}; there are ${Object.keys(PHASES).join(', ')}`);
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${name} wants a whole number above 0, not ${values[name]}`);
    return value;
  };
  return {
    wanted,
    json: values.json,
    kills: number('kills'),
    seed: values.seed === undefined ? newSeed() : number('seed'),
  };
}

const newSeed = () => Number(process.hrtime.bigint() & 0x3fffffffn) ^ process.pid || 1;

/** Real lines of nginx, or undefined with the reason reported. */
async function accessLog(report, random) {
  report.begin('data');
  const missing = missingTools((text) => report.note(text));
  if (missing.length > 0) {
    report.skip(
      'an access log of nginx driven by wrk',
      `${missing.join(' and ')} missing: apt-get install nginx-light wrk`,
    );
    return undefined;
  }
  const sandbox = new Sandbox('data');
  try {
    const lines = await makeAccessLog(sandbox, { lines: LINES, seed: random.int(1, 1e6) });
    report.pass('an access log of nginx driven by wrk', `${lines.count} lines, ${lines.buffer.length} bytes`);
    return lines;
  } catch (error) {
    report.fail('an access log of nginx driven by wrk', error.message);
    return undefined;
  } finally {
    await sandbox.close();
  }
}

async function perform(name, context) {
  const { report } = context;
  report.begin(name);
  if (NEEDS_LOG.has(name) && !context.log) {
    report.skip(`phase ${name}`, 'there is no access log');
    return;
  }
  const sandbox = new Sandbox(name);
  const started = now();
  try {
    await PHASES[name].run({ ...context, sandbox });
  } catch (error) {
    report.fail(`phase ${name} came to its end`, error.stack);
  } finally {
    await sandbox.close();
  }
  report.figures({ seconds: Number(((now() - started) / 1000).toFixed(1)) });
  report.note(`${((now() - started) / 1000).toFixed(1)} s`);
}

const { wanted, json, kills, seed } = options();
closeOnExit();
const report = new Report(json ? console.error : console.log);
report.write(`seed ${seed}, ${kills} kills in the file phase, in ${realDirectory(report.write)}`);
const random = new Random(seed);
const needsDaemon = wanted.some((phase) => phase !== 'checker');
if (needsDaemon && !fs.existsSync(CLI)) throw new Error(`${CLI} is missing: build it first with npm start or npm test`);

const log = wanted.some((phase) => NEEDS_LOG.has(phase)) ? await accessLog(report, random.fork('data')) : undefined;
const plan = {
  checker: {},
  file: { lines: log, kills },
  http: { lines: log?.slice(0, HTTP_LINES), kills: Math.ceil(kills / 4) },
  producers: { kills: Math.ceil(kills / 4) },
  storm: { kills: kills * STORM_MULTIPLE },
  sites: {},
};
for (const phase of wanted) await perform(phase, { ...plan[phase], log, report, random: random.fork(phase) });

// No loss in N independent kills bounds the probability of a loss per kill by 3/N, at 95 % confidence.
const killed = report.phases.filter(({ figures }) => figures.kills);
const inFlow = killed.reduce((sum, { figures }) => sum + figures.kills.in_flow, 0);
report.write(`\nseed ${seed}`);
for (const { name, figures } of killed) report.write(`kills in ${name}: ${JSON.stringify(figures.kills)}`);
if (inFlow > 0 && report.counts.failed === 0) {
  report.write(
    `${inFlow} faults in flow, nothing lost: a loss per fault is less likely than ${(3 / inFlow).toFixed(4)} (95 %)`,
  );
}
if (json)
  console.log(JSON.stringify({ seed, faults_in_flow: inFlow, ...report.counts, phases: report.phases }, null, 2));
report.write(report.closing);
process.exitCode = report.counts.failed > 0 ? 1 : 0;
