// What the figures were measured on.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { root } from '../../scripts/lib/paths.mjs';

/** @param {string} directory the one that is written to */
export function machine(directory) {
  return {
    cpu: cpus()[0].model,
    cores: cpus().length,
    memory_gb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    filesystem: filesystemOf(directory),
    commit: commit(),
  };
}

/** The type of the file system with the longest mount point above `directory`. */
function filesystemOf(directory) {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, point]) => point === '/' || directory === point || directory.startsWith(`${point}/`))
    .sort((a, b) => b[1].length - a[1].length);
  return mounts[0]?.[2] ?? 'unknown';
}

function commit() {
  try {
    const git = (...args) =>
      execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const dirty = git('status', '--porcelain', '--untracked-files=no').trim() !== '';
    return git('rev-parse', '--short=12', 'HEAD').trim() + (dirty ? '+changes' : '');
  } catch {
    return 'unknown';
  }
}
