#!/usr/bin/env node
// The command `elgate`. Not part of the compiled code, so that npm can link it in a fresh clone,
// where nothing is compiled yet.

import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  console.error('elgate: not built yet: run `npm start` or `npm run build` at the top of the clone');
  process.exitCode = 1;
}
