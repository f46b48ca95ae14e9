// The same suites in less friendly worlds: without io_uring by choice, without it because seccomp
// forbids it, and as an unprivileged user with hardly any lockable memory.

import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, targetDir } from '../lib/paths.mjs';
import { Skip } from './skip.mjs';

/** What runs there: whatever uses the real addon. Paths are below the top of the clone. */
export const SUITES = {
  node: {
    title: 'library and command',
    counts: 'ava',
    needs: [],
    programs: [],
    command: 'npx',
    args: ['--no-install', 'ava', '__tests__/native/**/*.spec.ts'],
    directory: 'packages/elgate',
  },
  readme: {
    title: 'what README.md shows',
    counts: 'node',
    needs: [],
    programs: [],
    command: 'node',
    args: ['--test', '--test-reporter=spec', 'tests/readme/readme.test.mjs'],
    directory: '.',
  },
  'bad-input': {
    title: 'bad input of every kind',
    counts: 'own',
    needs: [],
    programs: [],
    command: 'node',
    args: ['tests/bad-input/run.mjs'],
    directory: '.',
  },
  crash: {
    title: 'some kills',
    counts: 'own',
    needs: ['failpoints'],
    programs: ['nginx', 'wrk'],
    command: 'node',
    args: ['tests/crash/run.mjs', '--kills', '10', '--only', 'file,sites'],
    directory: '.',
  },
};

/** A world runs a suite: `enter(context, suite, cargo)`. */
export const WORLDS = {
  poll: { title: 'on the poll backend', programs: [], enter: onPoll },
  'no-uring': { title: 'where seccomp forbids io_uring', programs: [], enter: withoutUring },
  unprivileged: {
    title: "as user 'nobody' with 64 KiB of lockable memory",
    programs: ['setpriv', 'prlimit'],
    enter: unprivileged,
  },
};

const NOBODY = { user: 'nobody', group: 'nogroup' };
const MEMLOCK_BYTES = 64 * 1024;

/** What a suite needs of the clone in order to run elsewhere. */
const NEEDED = ['package.json', 'elgate.toml', 'node_modules', 'packages', 'tests', 'crates', 'README.md'];

function onPoll(context, suite) {
  const { command, args, directory } = suite;
  return context.run(command, args, {
    cwd: join(root, directory),
    env: { ELGATE_BACKEND: 'poll', EXPECTED_BACKEND: 'poll' },
  });
}

/** Under a filter that answers every io_uring system call with EPERM, as container runtimes do by default. */
async function withoutUring(context, suite, cargo) {
  const built = await cargo(context, ['build', '--locked', '--quiet', '-p', 'elgate-sandbox']);
  if (!built.ok) return built;
  const confine = join(targetDir(), 'debug/no-uring');
  return context.run(confine, [suite.command, ...suite.args], {
    cwd: join(root, suite.directory),
    env: { EXPECTED_BACKEND: 'poll' },
  });
}

/**
 * As `nobody`, without capabilities and with 64 KiB of lockable memory, in a private copy of what it
 * needs: the clone itself may lie where nobody may look.
 */
async function unprivileged(context, suite) {
  if (process.getuid() !== 0) throw new Skip('needs root, to become somebody else');
  const world = mkdtempSync(join(tmpdir(), 'elgate-nobody-'));
  try {
    for (const name of NEEDED.filter((candidate) => existsSync(join(root, candidate)))) {
      cpSync(join(root, name), join(world, name), { recursive: true, verbatimSymlinks: true });
    }
    const owned = await context.run('chown', ['-R', `${NOBODY.user}:${NOBODY.group}`, world]);
    if (!owned.ok) return owned;
    const become = [
      ...['--reuid', NOBODY.user, '--regid', NOBODY.group, '--clear-groups'],
      ...['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs'],
    ];
    const limit = ['prlimit', `--memlock=${MEMLOCK_BYTES}:${MEMLOCK_BYTES}`];
    return await context.run('setpriv', [...become, ...limit, suite.command, ...suite.args], {
      cwd: join(world, suite.directory),
      env: { HOME: world, TMPDIR: world, XDG_CACHE_HOME: undefined, npm_config_update_notifier: 'false' },
    });
  } finally {
    rmSync(world, { recursive: true, force: true });
  }
}
