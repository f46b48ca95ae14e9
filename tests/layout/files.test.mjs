// Files that can be read in one sitting, and nothing in them of the machine they were written on.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

const LINES_COMFORTABLE = 400;
const LINES_MAX = 800;

/** Written by tools, read by nobody. */
const LOCK_FILES = /(^|\/)(Cargo\.lock|package-lock\.json)$/;

const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' })
  .split('\0')
  .filter((name) => name !== '' && statSync(join(root, name), { throwIfNoEntry: false })?.isFile());
const textOf = (name) => readFileSync(join(root, name), 'utf8');
const linesOf = (name) => textOf(name).split('\n').length - 1;

test(`no file is longer than ${LINES_MAX} lines`, (context) => {
  const sizes = tracked
    .filter((name) => /\.(rs|ts|tsx|mts|mjs|js|toml|sh|yml)$/.test(name) && !LOCK_FILES.test(name))
    .map((name) => ({ name, lines: linesOf(name) }))
    .filter(({ lines }) => lines > LINES_COMFORTABLE)
    .sort((a, b) => b.lines - a.lines);
  for (const { name, lines } of sizes)
    context.diagnostic(`${lines} lines, over the comfortable ${LINES_COMFORTABLE}: ${name}`);
  assert.deepEqual(
    sizes.filter(({ lines }) => lines > LINES_MAX),
    [],
  );
});

/** What gives away the machine a file was written on. */
const OF_A_MACHINE = [
  ['a home directory', /(?<![\w.])\/(home\/(?!runner\b)[a-z]\w+|root|Users\/\w+)\//],
  ['a work directory', /(?<![\w.}/])\/(work|tmp\/target)\//],
  [
    'a package registry',
    /https?:\/\/(registry\.(npmjs\.org|yarnpkg\.com|npmmirror\.com)|index\.crates\.io|static\.crates\.io|(\w+\.)*(artifactory|nexus|verdaccio)\b)/,
  ],
];

test('no path of a developer machine and no registry host in any file', () => {
  const own = 'tests/layout/files.test.mjs';
  const found = tracked
    .filter((name) => name !== own)
    .flatMap((name) =>
      textOf(name)
        .split('\n')
        .flatMap((line, index) =>
          OF_A_MACHINE.filter(([, pattern]) => pattern.test(line)).map(
            ([what]) => `${name}:${index + 1}: ${what}: ${line.trim()}`,
          ),
        ),
    );
  assert.deepEqual(found, []);
});

test('lock files do not say where packages were downloaded', () => {
  for (const name of tracked.filter((file) => file.endsWith('package-lock.json'))) {
    assert.doesNotMatch(
      textOf(name),
      /"resolved": "https?:/,
      `${name}: npm install with omit-lockfile-registry-resolved=true (see .npmrc)`,
    );
  }
});

test('lock files hold the packages of every platform, not only of the one they were written on', () => {
  const missing = tracked
    .filter((name) => name.endsWith('package-lock.json'))
    .flatMap((name) => {
      const { packages } = JSON.parse(textOf(name));
      const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
      return wanted.filter((wish) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${wish}`)));
    });
  assert.deepEqual(missing, [], 'remove node_modules and package-lock.json, and run npm install');
});
