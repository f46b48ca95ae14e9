// Runs every benchmark once, tiny: not for its figures, but to see that it runs, that everybody's
// results are right, and that the output has the agreed form.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const PEERS = ['better-sqlite3', 'redis', 'fs'];
const METRICS = {
  log: ['append_p50_us', 'append_p95_us', 'bulk_mb_s'],
  node: ['append_p50_us', 'append_256_per_s', 'append_1024_per_s', 'append_many_per_s', 'post_ns'],
};
const FLOOR = ['write_4k_p50_us', 'write_256k_mb_s'];

function requireFigures(figures, names, where) {
  const wrong = names.filter((name) => !(Number.isFinite(figures?.[name]) && figures[name] > 0));
  if (wrong.length > 0) throw new Error(`${where} has no figure for ${wrong.join(', ')}`);
}

function check(name) {
  const run = fileURLToPath(new URL('run.mjs', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, [run, name, '--json', '--rounds', '1', '--seconds', '0.1'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`exit code ${status}`);
  const result = JSON.parse(stdout);
  const keys = Object.keys(result).sort().join();
  if (keys !== 'case,floor,machine,metrics,peers,rounds') throw new Error(`its keys are ${keys}`);
  if (result.case !== name || result.rounds !== 1)
    throw new Error(`it says case ${result.case}, ${result.rounds} rounds`);
  requireFigures(result.metrics, METRICS[name], 'metrics');
  requireFigures(result.floor, FLOOR, 'floor');
  for (const peer of PEERS) requireFigures(result.peers[peer], ['append_p50_us'], peer);
}

let failed = 0;
for (const name of Object.keys(METRICS)) {
  try {
    check(name);
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}: ${error.message}`);
  }
}
console.log(`${Object.keys(METRICS).length - failed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed > 0 ? 1 : 0;
