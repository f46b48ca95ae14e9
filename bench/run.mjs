#!/usr/bin/env node
// `npm run -s bench -- CASE [options]`; without a case it says what there is.
//
// Elgate, the device's floor and the peers take turns in the same run, at the same durability and
// with the same payload; everybody's results are checked for count, order and bytes. The result
// goes to stdout, progress to stderr.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root } from '../scripts/lib/paths.mjs';
import { logCase } from './cases/log.mjs';
import { nodeCase } from './cases/node.mjs';
import { readArguments, Usage } from './lib/arguments.mjs';
import { endOnSignal } from './lib/children.mjs';
import { machine } from './lib/machine.mjs';
import { writeReadme } from './lib/readme.mjs';
import { table } from './lib/table.mjs';

const CASES = { log: logCase, node: nodeCase };

/** Peers and what draws plots are installed on the first run, from bench/package-lock.json. */
function installPeers() {
  const here = join(root, 'bench');
  // Named: the one that was added last, so that an older installation is brought up to date.
  if (existsSync(join(here, 'node_modules/vega-lite/package.json'))) return;
  console.error('installing the peers (better-sqlite3 is compiled, which takes a minute)');
  // Node's own headers, where this machine has them, save node-gyp a download.
  const prefix = resolve(process.execPath, '../..');
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: here,
    env: { ...process.env, ...headers },
    stdio: ['ignore', process.stderr, process.stderr],
  });
  if (status !== 0) throw new Error('npm ci in bench/ failed; better-sqlite3 needs python3, make and a C++ compiler');
}

async function main() {
  const argv = process.argv.slice(2);
  const { name, json, directory, writeReadme: toReadme, ...how } = readArguments(argv, Object.keys(CASES));
  installPeers();
  const base = resolve(directory ?? join(root, '.cache/bench'));
  mkdirSync(base, { recursive: true });
  const scratch = mkdtempSync(join(base, `${name}-`));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  endOnSignal();
  const progress = (text) => console.error(`${name}: ${text}`);
  const { curves, ...figures } = await CASES[name]({ directory: scratch, progress, ...how });
  const result = { case: name, machine: machine(scratch), ...figures, rounds: how.rounds };
  if (how.plots) {
    const { drawPlots } = await import('./plots/index.mjs');
    for (const path of await drawPlots(result, curves, join(root, 'docs/internals'))) progress(`drew ${path}`);
  }
  if (toReadme) writeReadme(result, argv, how.plots);
  console.log(json ? JSON.stringify(result) : table(result));
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Usage ? error.message : error.stack}`);
  process.exitCode = error instanceof Usage ? 2 : 1;
}
