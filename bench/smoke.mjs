// Runs every benchmark once, tiny: not for its figures, but to see that it runs, that everybody's
// results are right, and that the output has the agreed form.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const KEYS = ['case', 'floor', 'machine', 'metrics', 'peers', 'rounds'];
const CASES = {
  log: {
    keys: [...KEYS, 'backends', 'notes'],
    metrics: [
      'append_p50_us',
      'append_p95_us',
      'latency_10k_avg_us',
      'stream_100mb_s_p95_us',
      'bulk_mb_s',
      'bulk_growing_mb_s',
      'records_per_s',
      'records_over_redis',
      'cpu_us_per_record',
      'open_ms',
    ],
    floor: ['write_4k_p50_us', 'write_4k_p95_us', 'write_4k_qd4_per_s', 'latency_10k_avg_us', 'write_256k_mb_s'],
    peers: ['better-sqlite3', 'redis', 'fs', 'fjall'],
  },
  node: {
    keys: KEYS,
    metrics: ['append_p50_us', 'append_256_per_s', 'append_1024_per_s', 'append_many_per_s', 'post_ns'],
    floor: ['write_4k_p50_us', 'write_256k_mb_s'],
    peers: ['better-sqlite3', 'redis', 'fs'],
  },
};

function requireFigures(figures, names, where) {
  const wrong = names.filter((name) => !(Number.isFinite(figures?.[name]) && figures[name] > 0));
  if (wrong.length > 0) throw new Error(`${where} has no figure for ${wrong.join(', ')}`);
}

function check(name) {
  const run = fileURLToPath(new URL('run.mjs', import.meta.url));
  const args = [run, name, '--json', '--rounds', '1', '--seconds', '0.1', '--quick'];
  const { status, stdout } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`exit code ${status}`);
  const result = JSON.parse(stdout);
  const wanted = CASES[name];
  const keys = Object.keys(result).sort().join();
  if (keys !== wanted.keys.toSorted().join()) throw new Error(`its keys are ${keys}`);
  if (result.case !== name || result.rounds !== 1)
    throw new Error(`it says case ${result.case}, ${result.rounds} rounds`);
  requireFigures(result.metrics, wanted.metrics, 'metrics');
  requireFigures(result.floor, wanted.floor, 'floor');
  for (const peer of wanted.peers) requireFigures(result.peers[peer], ['append_p50_us'], peer);
  for (const [backend, figures] of Object.entries(result.backends ?? {}))
    requireFigures(figures, ['append_p50_us', 'append_16_per_s', 'bulk_mb_s'], backend);
}

/** Every plot, from made-up figures: it is drawn, and everybody measured is in it. */
async function checkPlots() {
  const { drawPlots } = await import('./plots/index.mjs');
  const backend = { append_p50_us: 1, append_16_p50_us: 1, append_16_per_s: 1, bulk_mb_s: 1 };
  const figures = { records_per_s: 1, append_many_per_s: 1, bulk_mb_s: 1, bulk_growing_mb_s: 1, write_256k_mb_s: 1 };
  const result = {
    metrics: figures,
    floor: figures,
    peers: Object.fromEntries(CASES.log.peers.map((peer) => [peer, figures])),
    backends: { uring: backend, poll: backend },
  };
  const curve = [
    [0, 80],
    [50, 90],
    [95, 200],
  ];
  const latencies = Object.fromEntries(['floor', 'elgate', ...CASES.log.peers].map((name) => [name, curve]));
  const loads = ['floor', 'elgate'].map((who) => ({ rate: 1000, who, mean_us: 100, p95_us: 200 }));
  const directory = mkdtempSync(join(tmpdir(), 'elgate-plots-'));
  try {
    for (const path of await drawPlots(result, { latencies, loads }, directory)) {
      const svg = readFileSync(path, 'utf8');
      if (!svg.startsWith('<svg') || !svg.includes('prefers-color-scheme'))
        throw new Error(`${path} is no SVG that follows the reader's theme`);
      if (!/Elgate|uring/.test(svg) || /NaN|undefined/.test(svg)) throw new Error(`${path} lacks data`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

let failed = 0;
const checks = {
  ...Object.fromEntries(Object.keys(CASES).map((name) => [name, () => check(name)])),
  plots: checkPlots,
};
for (const [name, run] of Object.entries(checks)) {
  try {
    await run();
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}: ${error.message}`);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed > 0 ? 1 : 0;
