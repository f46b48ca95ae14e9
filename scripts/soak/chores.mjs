// What a soak does in turn. Each chore is one of the test programs with a seed of its own, run to its end and read by
// the JSON it prints: `perform(turn)` gives `{ phases, simulation, failed, skipped, isComplete }`; of what failed, the story
// and the command that does it again.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from '../../tests/crash/lib/random.mjs';
import { CASES } from '../../tests/faults/cases/index.mjs';
import { root, targetDir } from '../lib/paths.mjs';
import { run } from '../lib/process.mjs';
import { nextSimulationSeed } from './ledger.mjs';

const CHORE_SECONDS_MAX = 900;
/** Faults by case; power cuts and flips have turns of their own. */
const FAULTS = Object.keys(CASES).filter((name) => !/^(power-cut|rot)/.test(name));
const SIMULATION_SECONDS = 20;
const SIMULATION_SEEDS_FIRST = 100;
/** Seeds from here on have mirrors. */
const MIRRORED_SEEDS = 2 ** 32;

let current;

/** Ends the chore under way; it takes down what it made. */
export function endChore() {
  current?.kill('SIGTERM');
}

export async function makeChores({ seed, isLong }) {
  const random = new Random(seed);
  const size = (short, long) => String(isLong ? long : short);
  const script = (name, file, args) => ({
    name: typeof name === 'string' ? name : 'faults',
    perform: async (turn) => {
      const chosen = typeof args === 'function' ? args() : args;
      const program = [join(root, file), ...chosen, '--json', '--seed', String(random.fork(turn).int(1, 2 ** 30))];
      return outcomeOf(name, program, await start(process.execPath, program));
    },
  });
  const deck = [];
  const draw = () => {
    if (deck.length === 0) deck.push(...random.shuffle(FAULTS));
    return deck.pop();
  };
  const cut = { backend: 0 };
  const powerCut = () => {
    cut.backend += 1;
    const name = cut.backend % 3 === 0 ? 'power-cut-poll' : 'power-cut';
    // Of so many, each of the two takes its share.
    return [name, '--cuts', name === 'power-cut' ? size(20, 100) : size(60, 300)];
  };
  const faults = () => [draw(), draw()];
  return [
    script('power cuts', 'tests/faults/run.mjs', powerCut),
    script('kills at random', 'tests/crash/run.mjs', ['--only', 'storm', '--kills', size(5, 25)]),
    script('faults', 'tests/faults/run.mjs', faults),
    script('flipped bits', 'tests/faults/run.mjs', ['rot', '--flips', size(8, 50)]),
    await simulation(),
    script('kills at sites', 'tests/crash/run.mjs', ['--only', 'sites']),
    script('faults', 'tests/faults/run.mjs', faults),
  ];
}

/** Runs a program in a group of its own, so that Ctrl-C reaches it through `endChore` only. */
function start(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    current = child;
    const out = { stdout: [], stderr: [] };
    for (const name of ['stdout', 'stderr']) child[name].on('data', (chunk) => out[name].push(chunk));
    const timer = setTimeout(() => child.kill('SIGTERM'), CHORE_SECONDS_MAX * 1000);
    const finish = (code, signal, error) => {
      clearTimeout(timer);
      current = undefined;
      const text = (name) => Buffer.concat(out[name]).toString();
      resolve({ code, signal, error, stdout: text('stdout'), stderr: text('stderr') });
    };
    child.once('error', (error) => finish(null, null, error));
    child.once('close', (code, signal) => finish(code, signal));
  });
}

function outcomeOf(name, program, { code, signal, error, stdout, stderr }) {
  const command = `node ${program.join(' ').replace(`${root}/`, '')}`;
  let result;
  try {
    result = JSON.parse(stdout.slice(stdout.indexOf('{'), stdout.lastIndexOf('}') + 1));
  } catch {
    const end = error?.message ?? signal ?? `exit ${code}`;
    return {
      phases: [],
      failed: [{ story: `${name} ended with ${end}:\n${stderr.slice(-2_000)}`, command }],
      isComplete: false,
    };
  }
  const failed = result.phases.flatMap(({ name: phase, checks }) =>
    checks
      .filter(({ outcome }) => outcome === 'failed')
      .map(({ title, detail }) => ({ story: `${phase}: ${title}: ${detail}`, command })),
  );
  return { phases: result.phases, failed, isComplete: true };
}

/** The whole engine in virtual time, if this checkout has it. */
async function simulation() {
  const name = 'simulated lives';
  if (!existsSync(join(root, 'crates/elgate-sim')))
    return { name, perform: async () => skip('there is no crates/elgate-sim here') };
  const env = { CARGO_TARGET_DIR: targetDir() };
  const built = await run('cargo', ['build', '--locked', '--release', '-p', 'elgate-sim'], { cwd: root, env });
  if (!built.ok) return { name, perform: async () => skip(`crates/elgate-sim does not build: ${built.reason}`) };
  let from = nextSimulationSeed();
  let seeds = SIMULATION_SEEDS_FIRST;
  let turn = 0;
  return {
    name,
    async perform() {
      const offset = turn++ % 2 ? MIRRORED_SEEDS : 0;
      const args = ['--seeds', String(seeds), '--from', String(from + offset), '--json'];
      const begin = process.hrtime.bigint();
      const { code, signal, stdout, stderr } = await start(join(targetDir(), 'release/elgate-sim'), args);
      if (code !== 0) {
        const broken = /^seed (\d+): .*$/m.exec(stderr);
        const story = broken?.[0] ?? `ended with ${signal ?? `exit ${code}`}:\n${stderr.slice(-2_000)}`;
        const again = broken
          ? `cargo run -p elgate-sim -- --seed ${broken[1]} --story`
          : `elgate-sim ${args.join(' ')}`;
        // The next turn begins behind it, for it would only fail again.
        if (broken) from = Number(broken[1]) - offset + 1;
        return { phases: [], failed: [{ story: `${name}: ${story}`, command: again }], isComplete: signal === null };
      }
      const result = JSON.parse(stdout);
      from += seeds;
      const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
      seeds = Math.max(1, Math.round((seeds * SIMULATION_SECONDS) / Math.max(0.1, seconds)));
      return { phases: [], simulation: { ...result, next_seed: from }, failed: [], isComplete: true };
    },
  };
}

const skip = (skipped) => ({ phases: [], failed: [], skipped, isComplete: true });
