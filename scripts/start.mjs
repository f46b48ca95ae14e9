#!/usr/bin/env node
// `npm start`: from a fresh clone to a running daemon in the foreground.
//
// Arguments after `--` go to `elgate serve`, for example `npm start -- --admin 127.0.0.1:7071`.

import { spawn } from 'node:child_process';
import { relative } from 'node:path';
import { BuildFailed, buildNative, buildTypeScript, installPackages } from './lib/build.mjs';
import { cliEntry, root } from './lib/paths.mjs';
import { endChildrenOnSignal } from './lib/process.mjs';
import { bold, fail, heading } from './lib/report.mjs';
import { MissingTool, requireBuildTools } from './lib/tools.mjs';

/** One interrupt arrives twice (from the terminal and from npm); a later one is meant. */
const SAME_SIGNAL_MS = 500;

async function prepare() {
  try {
    await requireBuildTools();
    await installPackages();
    await buildNative();
    await buildTypeScript();
  } catch (error) {
    if (error instanceof MissingTool || error instanceof BuildFailed) fail(error.message);
    throw error;
  }
}

function sayWhatToTry(entry) {
  heading('Starting the daemon');
  console.log(`
It serves the routes of elgate.toml: whatever is put into 'access' is made durable in elgate-data/
and carried to out/access.log, in order, whatever is killed. Ctrl-C drains and stops it.

In another terminal, here:

  ${bold('seq 1000 | npx elgate put access')}     hand over 1,000 records; ends when all are durable
  ${bold('npx elgate tail access --from start')}  read them back from the log
  ${bold('npx elgate status')}                    routes, watermarks, memory, and why
`);
  console.log(`running: node ${relative(root, entry)} serve --config elgate.toml\n`);
}

function serve(entry) {
  // In a session of its own, so that one Ctrl-C reaches the daemon once: from here.
  const daemon = spawn(process.execPath, [entry, 'serve', '--config', 'elgate.toml', ...process.argv.slice(2)], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  const last = {};
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      const now = performance.now();
      const repeated = now - (last[signal] ?? Number.NEGATIVE_INFINITY) < SAME_SIGNAL_MS;
      last[signal] = now;
      if (!repeated) daemon.kill(signal);
    });
  }
  daemon.on('error', (error) => fail(`cannot start the daemon: ${error.message}`));
  daemon.on('exit', (code, signal) => {
    if (signal) console.error(`elgate: the daemon was ended by ${signal}`);
    process.exitCode = code ?? 1;
  });
}

const preparing = new AbortController();
endChildrenOnSignal({ until: preparing.signal });
await prepare();
preparing.abort();

const entry = cliEntry();
sayWhatToTry(entry);
serve(entry);
