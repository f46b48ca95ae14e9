// Every step of `npm test`, in order. A step's `run` returns the outcome of a program, or nothing
// for success; throws for failure; throws Skip when this machine lacks what it needs.

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative, buildTypeScript, installPackages } from '../lib/build.mjs';
import { cacheDir, root, targetDir } from '../lib/paths.mjs';
import { capture } from '../lib/process.mjs';
import { hasTool } from '../lib/tools.mjs';
import { installPrograms } from './debian.mjs';
import { packed } from './packed.mjs';
import { inUnprivileged, withoutUring } from './worlds.mjs';

/** Thrown by a step that cannot run here; the message says what is missing. */
export class Skip extends Error {}

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

/** The library's and the command's own suites: what every backend and every confinement must pass. */
const ELGATE_SUITE = { command: 'npx', args: ['--no-install', 'ava'], cwd: join(root, 'packages/elgate') };

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
    run: (context) => cargo(context, ['clippy', '--locked', '--workspace', '--all-targets', '--', '-D', 'warnings']),
  },
  {
    name: 'rust',
    title: 'tests of all crates',
    counts: 'cargo',
    run: (context) => cargo(context, ['test', '--locked', '--workspace', '--no-fail-fast'], { timeoutSeconds: 1200 }),
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
    run: (context) => context.run(ELGATE_SUITE.command, ELGATE_SUITE.args, { cwd: ELGATE_SUITE.cwd }),
  },
  {
    name: 'poll',
    title: 'library and command on the poll backend',
    counts: 'ava',
    needs: BUILT,
    run: (context) =>
      context.run(ELGATE_SUITE.command, ELGATE_SUITE.args, { cwd: ELGATE_SUITE.cwd, env: { ELGATE_BACKEND: 'poll' } }),
  },
  {
    name: 'no-uring',
    title: 'library and command where seccomp forbids io_uring',
    counts: 'ava',
    needs: BUILT,
    run: (context) => withoutUring(context, cargo, ELGATE_SUITE),
  },
  {
    name: 'unprivileged',
    title: "library and command as user 'nobody' with 64 KiB of lockable memory",
    counts: 'ava',
    needs: BUILT,
    run(context) {
      if (process.getuid() !== 0) throw new Skip('needs root, to become somebody else');
      requirePrograms(context, ['setpriv', 'prlimit']);
      return inUnprivileged(context, ELGATE_SUITE);
    },
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
    name: 'crash',
    title: 'real daemon, real data, SIGKILL at named sites and at random',
    counts: 'own',
    needs: [...BUILT, 'failpoints'],
    run(context) {
      requirePrograms(context, ['nginx', 'wrk']);
      const suite = 'tests/crash/run.mjs';
      if (!existsSync(join(root, suite))) throw new Skip(`${suite} is not there`);
      return context.run(process.execPath, [suite], { cwd: root, timeoutSeconds: 1200 });
    },
  },
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
