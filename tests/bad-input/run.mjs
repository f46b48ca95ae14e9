// Bad input, through the real command and the real daemon: each gets one clear error with the way out, and nothing is lost.
//
//   node tests/bad-input/run.mjs [--only WORDS] [--json]
//
// `--only` runs the cases whose title holds the words. Ends with "N passed, N failed, N skipped"; exit 1 on failures.

import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { Report } from '../crash/lib/report.mjs';
import { CLI, closeOnExit, realDirectory, Sandbox } from '../crash/lib/sandbox.mjs';
import { cases as command } from './cases/command.mjs';
import { cases as config } from './cases/config.mjs';
import { cases as farEnd } from './cases/far-end.mjs';
import { cases as idle } from './cases/idle.mjs';
import { cases as log } from './cases/log.mjs';
import { cases as place } from './cases/place.mjs';
import { cases as ring } from './cases/ring.mjs';
import { Lacking } from './lib/case.mjs';

const GROUPS = { config, command, ring, log, place, 'far end': farEnd, idle };

const { values } = parseArgs({
  options: { only: { type: 'string', default: '' }, json: { type: 'boolean', default: false } },
});
closeOnExit();
const report = new Report(values.json ? console.error : console.log);
if (!fs.existsSync(CLI)) throw new Error(`${CLI} is missing: build it first with npm start or npm test`);
realDirectory(report.write);

for (const [group, cases] of Object.entries(GROUPS)) {
  const chosen = cases.filter(({ title }) => title.includes(values.only));
  if (chosen.length === 0) continue;
  report.begin(group);
  for (const { title, run } of chosen) await perform(title, run);
}
if (values.json) console.log(JSON.stringify({ ...report.counts, groups: report.phases }, null, 2));
report.write(`\n${report.closing}`);
process.exitCode = report.counts.failed > 0 ? 1 : 0;

async function perform(title, run) {
  const sandbox = new Sandbox('bad-input');
  try {
    await run(sandbox, { note: (text) => report.note(text) });
    report.pass(title);
  } catch (error) {
    if (error instanceof Lacking) report.skip(title, error.message);
    else report.fail(title, error.message);
  } finally {
    await sandbox.close();
  }
}
