#!/usr/bin/env node
// Builds the native addon: `npm run build:native [-- --failpoints]`.
//
// --failpoints builds the variant that can be killed at named places, for the crash tests.

import { BuildFailed, buildNative } from './lib/build.mjs';
import { endChildrenOnSignal } from './lib/process.mjs';
import { fail } from './lib/report.mjs';
import { MissingTool, requireBuildTools } from './lib/tools.mjs';

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--failpoints');
if (unknown !== undefined) fail(`unknown argument ${unknown}; usage: build-native.mjs [--failpoints]`);

endChildrenOnSignal();
try {
  await requireBuildTools();
  await buildNative(args.length > 0 ? 'failpoints' : 'release');
} catch (error) {
  if (error instanceof MissingTool || error instanceof BuildFailed) fail(error.message);
  throw error;
}
