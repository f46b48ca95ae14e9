// Every step of `npm test`, in order. A step's `run` returns the outcome of a program, or nothing
// for success; throws for failure; throws Skip when this machine lacks what it needs.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative, buildTypeScript, installPackages } from '../lib/build.mjs';
import { cacheDir, root, targetDir } from '../lib/paths.mjs';
import { capture } from '../lib/process.mjs';
import { hasTool } from '../lib/tools.mjs';
import { installPrograms } from './debian.mjs';
import { packed } from './packed.mjs';
import { Skip } from './skip.mjs';
import { SUITES, WORLDS } from './worlds.mjs';

const SEEDED_BUGS = 'elgate-log/seeded-bugs,elgate-sim/seeded-bugs';

const ACTIONLINT_VERSION = 'v1.7.12';

const cargo = (context, args, options = {}) =>
  context.run('cargo', args, {
    cwd: root,
    ...options,
    env: { CARGO_TARGET_DIR: targetDir(), CARGO_TERM_COLOR: process.stdout.isTTY ? 'always' : 'auto', ...options.env },
  });

const npx = (context, args, options = {}) => context.run('npx', ['--no-install', ...args], { cwd: root, ...options });

const nodeTest = (context, files) =>
  context.run(process.execPath, ['--test', '--test-reporter=spec', ...files], { cwd: root });

function requirePrograms(context, names) {
  const missing = names.filter((name) => context.missingPrograms.includes(name));
  if (missing.length > 0) throw new Skip(`needs ${missing.join(', ')}`);
}

async function actionlint() {
  const bin = join(cacheDir, 'bin');
  const program = join(bin, 'actionlint');
  const version = await capture(program, ['-version']);
  if (version?.split('\n')[0] === ACTIONLINT_VERSION) return program;
  if (!(await hasTool('go', ['version'])))
    throw new Skip('needs actionlint, which needs Go to install: https://go.dev/dl');
  mkdirSync(bin, { recursive: true });
  const module = `github.com/rhysd/actionlint/cmd/actionlint@${ACTIONLINT_VERSION}`;
  if ((await capture('go', ['install', module], { env: { GOBIN: bin } })) === undefined) {
    throw new Skip(`needs actionlint, and 'go install ${module}' failed`);
  }
  return program;
}

/** What everything needs that uses the library or the command. */
const BUILT = ['install', 'typescript', 'native'];

export const STEPS = [
  {
    name: 'programs',
    title: 'programs that tests drive or compare with',
    counts: 'setup',
    async run(context) {
      context.missingPrograms = await installPrograms();
      if (context.missingPrograms.length > 0) throw new Skip(`not installed: ${context.missingPrograms.join(', ')}`);
    },
  },
  { name: 'install', title: 'npm packages of the lock file', counts: 'setup', run: installPackages },
  {
    name: 'scripts',
    title: 'what counts the tests and checks the benchmarks',
    counts: 'node',
    run: (context) => nodeTest(context, ['scripts/test/counts.test.mjs', 'bench/lib/payload.test.mjs']),
  },
  { name: 'fmt', title: 'rustfmt', run: (context) => cargo(context, ['fmt', '--all', '--check']) },
  {
    name: 'clippy',
    title: 'clippy, warnings are errors',
    run: (context) =>
      cargo(context, [
        ...['clippy', '--locked', '--workspace', '--all-targets', '--features', 'elgate-engine/tokio-uring'],
        ...['--', '-D', 'warnings'],
      ]),
  },
  {
    name: 'rust',
    title: 'tests of all crates',
    counts: 'cargo',
    run: (context) => cargo(context, ['test', '--locked', '--workspace', '--no-fail-fast'], { timeoutSeconds: 1200 }),
  },
  {
    name: 'seeded-bugs',
    title: 'known defects, switched on one by one: each is noticed',
    counts: 'cargo',
    run: (context) =>
      cargo(
        context,
        [
          'test',
          '--locked',
          '-p',
          'elgate-log',
          '-p',
          'elgate-sim',
          '--features',
          SEEDED_BUGS,
          '--test',
          'torn',
          '--test',
          'seeded_bugs',
        ],
        { timeoutSeconds: 1200 },
      ),
  },
  {
    name: 'rust-poll',
    title: "the engine's tests on the poll backend",
    counts: 'cargo',
    run: (context) =>
      cargo(context, ['test', '--locked', '-p', 'elgate-engine', '--no-fail-fast'], {
        env: { ELGATE_BACKEND: 'poll' },
        timeoutSeconds: 1200,
      }),
  },
  {
    name: 'rust-tokio-uring',
    title: "the drivers' conformance suite on tokio-uring too",
    counts: 'cargo',
    run: (context) =>
      cargo(context, ['test', '--locked', '-p', 'elgate-io', '--features', 'tokio-uring', '--test', 'conformance'], {
        timeoutSeconds: 600,
      }),
  },
  {
    name: 'loom',
    title: "every interleaving of the ring's atomics (loom)",
    counts: 'cargo',
    run: (context) =>
      cargo(context, ['test', '--locked', '--release', '-p', 'elgate-ring', '--test', 'loom'], {
        env: { RUSTFLAGS: '--cfg loom', CARGO_TARGET_DIR: join(targetDir(), 'loom'), LOOM_MAX_PREEMPTIONS: '3' },
      }),
  },
  {
    name: 'biome',
    title: 'TypeScript format and lint',
    needs: ['install'],
    run: (context) => npx(context, ['biome', 'ci']),
  },
  { name: 'typescript', title: 'TypeScript build', needs: ['install'], run: buildTypeScript },
  {
    name: 'layout',
    title: 'dependency direction, file sizes, nothing of a developer machine',
    counts: 'node',
    run: (context) => nodeTest(context, ['tests/layout/dependencies.test.mjs', 'tests/layout/files.test.mjs']),
  },
  {
    name: 'workflows',
    title: 'GitHub workflows (actionlint)',
    async run(context) {
      return context.run(await actionlint(), ['-color'], { cwd: root });
    },
  },
  { name: 'native', title: 'native addon', counts: 'setup', run: () => buildNative('release') },
  { name: 'failpoints', title: 'native addon with kill sites', counts: 'setup', run: () => buildNative('failpoints') },
  {
    name: 'node',
    title: 'library and command',
    counts: 'ava',
    needs: BUILT,
    run: (context) => npx(context, ['ava'], { cwd: join(root, 'packages/elgate') }),
  },
  {
    name: 'readme',
    title: 'what README.md shows',
    counts: 'node',
    needs: BUILT,
    run: (context) => nodeTest(context, ['tests/readme/readme.test.mjs']),
  },
  {
    name: 'packed',
    title: 'packed, installed elsewhere, used',
    needs: BUILT,
    run: packed,
  },
  {
    name: 'bad-input',
    title: 'bad input of every kind: one clear error each, nothing lost',
    counts: 'own',
    needs: BUILT,
    run: (context) => context.run(process.execPath, ['tests/bad-input/run.mjs'], { cwd: root }),
  },
  {
    name: 'crash',
    title: 'real daemon, real data, SIGKILL at named sites and at random',
    counts: 'own',
    needs: [...BUILT, 'failpoints'],
    run(context) {
      requirePrograms(context, ['nginx', 'wrk']);
      return context.run(process.execPath, ['tests/crash/run.mjs'], { cwd: root });
    },
  },
  {
    name: 'faults',
    title: 'power cuts, failing and full disks, stopped and starved processes',
    counts: 'own',
    needs: [...BUILT, 'failpoints'],
    async run(context) {
      const built = await cargo(context, ['build', '--locked', '--quiet', '-p', 'elgate-fault-disk']);
      if (!built.ok) return built;
      return context.run(process.execPath, ['tests/faults/run.mjs'], { cwd: root });
    },
  },
  ...Object.entries(WORLDS).flatMap(([world, { title, programs, enter }]) =>
    Object.entries(SUITES).map(([suite, { needs, ...command }]) => ({
      name: `${suite}-${world}`,
      title: `${command.title} ${title}`,
      counts: command.counts,
      needs: [...BUILT, ...needs],
      run(context) {
        requirePrograms(context, [...programs, ...command.programs]);
        return enter(context, command, cargo);
      },
    })),
  ),
  {
    name: 'bench',
    title: 'benchmarks, one tiny round each',
    counts: 'own',
    needs: BUILT,
    run(context) {
      requirePrograms(context, ['redis-server']);
      return context.run(process.execPath, ['bench/smoke.mjs'], { cwd: root });
    },
  },
];
