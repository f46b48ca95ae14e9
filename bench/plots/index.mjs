// The plots of the case `log`, as files for bench/README.md.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { appendLatency } from './append_latency.mjs';
import { backends } from './backends.mjs';
import { offeredLoad } from './offered_load.mjs';
import { toSvg } from './svg.mjs';
import { throughput } from './throughput.mjs';

/**
 * @param {object} result what `--json` prints
 * @param {{latencies: object, loads: object[]}} curves
 * @param {string} directory
 * @returns {Promise<string[]>} the files
 */
export async function drawPlots(result, curves, directory) {
  const plots = {
    'append-latency.svg': appendLatency(curves.latencies),
    'throughput.svg': throughput(result),
    'offered-load.svg': offeredLoad(curves.loads),
    'backends.svg': backends(result.backends),
  };
  mkdirSync(directory, { recursive: true });
  const paths = [];
  for (const [name, spec] of Object.entries(plots)) {
    const path = join(directory, name);
    writeFileSync(path, await toSvg(spec));
    paths.push(path);
  }
  return paths;
}
