// The programs that tests drive or compare with, installed where this is root on Debian or Ubuntu.

import { run } from '../lib/process.mjs';
import { hasTool } from '../lib/tools.mjs';

/** Program, Debian package, and arguments that only print a version. */
const PROGRAMS = [
  ['nginx', 'nginx', ['-v']],
  ['wrk', 'wrk', null],
  ['redis-server', 'redis-server', ['--version']],
  ['strace', 'strace', ['-V']],
  ['curl', 'curl', ['--version']],
  ['setpriv', 'util-linux', ['--version']],
  ['prlimit', 'util-linux', ['--version']],
  ['mkfs.ext4', 'e2fsprogs', ['-V']],
  ['filefrag', 'e2fsprogs', null],
  ['losetup', 'mount', ['--version']],
];

// wrk and filefrag have no argument that succeeds without doing something, so they are looked up instead.
const present = ([program, , args]) =>
  args === null ? hasTool('sh', ['-c', `command -v ${program}`]) : hasTool(program, args);

async function absent() {
  const found = await Promise.all(PROGRAMS.map(present));
  return PROGRAMS.filter((_, index) => !found[index]);
}

/**
 * Installs what is missing if this process may.
 *
 * @returns {Promise<string[]>} the programs still missing, each of which costs the suites that need it
 */
export async function installPrograms() {
  let missing = await absent();
  if (missing.length === 0) return [];
  const packages = [...new Set(missing.map(([, name]) => name))];
  const install = `apt-get install --yes ${packages.join(' ')}`;
  if (process.getuid() !== 0 || !(await hasTool('apt-get'))) {
    console.log(`Some suites need programs that are not here. To run everything: sudo ${install}`);
    return missing.map(([program]) => program);
  }
  // RUNLEVEL=1 keeps the packages from starting their services.
  const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const wait = ['-o', 'DPkg::Lock::Timeout=300'];
  await run('apt-get', [...wait, 'update', '--quiet'], { env, timeoutSeconds: 300 });
  await run('apt-get', [...wait, 'install', '--quiet', '--yes', '--no-install-recommends', ...packages], {
    env,
    timeoutSeconds: 600,
  });
  missing = await absent();
  return missing.map(([program]) => program);
}
