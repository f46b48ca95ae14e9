// Tests against the real addon. Where it is not built they are skipped, aloud.

import { existsSync } from 'node:fs';
import test from 'ava';
import { developmentBuild } from '../../src/native/load.js';

const available = Boolean(process.env.ELGATE_NATIVE) || existsSync(developmentBuild());
if (!available) console.error(`skipped: ${developmentBuild()} is not built; run \`npm run build:native\``);

/** One after the other: they share a device and two cores. */
export const nativeTest = available ? test.serial : test.serial.skip;

/** The smallest, so that preparing them takes no time. */
export const segmentBytes = 4 * 1024 * 1024;
