// The same suite in less friendly worlds: io_uring forbidden by seccomp, and an unprivileged user
// with hardly any lockable memory.

import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { root, targetDir } from '../lib/paths.mjs';

const NOBODY = { user: 'nobody', group: 'nogroup' };
const MEMLOCK_BYTES = 64 * 1024;

/** What a suite needs of the clone in order to run elsewhere. */
const NEEDED = ['package.json', 'elgate.toml', 'node_modules', 'packages', 'tests', 'examples'];

/**
 * Runs a suite under a filter that answers every io_uring system call with EPERM, as container
 * runtimes do by default.
 */
export async function withoutUring(context, cargo, suite) {
  const built = await cargo(context, ['build', '--locked', '--quiet', '-p', 'elgate-sandbox']);
  if (!built.ok) return built;
  const confine = join(targetDir(), 'debug/no-uring');
  return context.run(confine, [suite.command, ...suite.args], { cwd: suite.cwd });
}

/**
 * Runs a suite as `nobody`, without capabilities and with 64 KiB of lockable memory, in a private
 * copy of what it needs: the clone itself may lie where nobody may look.
 */
export async function inUnprivileged(context, suite) {
  const world = mkdtempSync(join(tmpdir(), 'elgate-nobody-'));
  try {
    for (const name of NEEDED.filter((candidate) => existsSync(join(root, candidate)))) {
      cpSync(join(root, name), join(world, name), { recursive: true, verbatimSymlinks: true });
    }
    const owned = await context.run('chown', ['-R', `${NOBODY.user}:${NOBODY.group}`, world]);
    if (!owned.ok) return owned;
    const become = [
      '--reuid',
      NOBODY.user,
      '--regid',
      NOBODY.group,
      '--clear-groups',
      '--inh-caps=-all',
      '--bounding-set=-all',
      '--no-new-privs',
    ];
    const limit = ['prlimit', `--memlock=${MEMLOCK_BYTES}:${MEMLOCK_BYTES}`];
    return await context.run('setpriv', [...become, ...limit, suite.command, ...suite.args], {
      cwd: join(world, relative(root, suite.cwd)),
      env: { HOME: world, TMPDIR: world, XDG_CACHE_HOME: undefined, npm_config_update_notifier: 'false' },
    });
  } finally {
    rmSync(world, { recursive: true, force: true });
  }
}
