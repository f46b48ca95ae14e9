// What has to happen between a fresh clone and something that runs: packages, addon, TypeScript.
// Each step is skipped, aloud, when its result is up to date.

import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nativeDir, platformTriple, root, targetDir } from './paths.mjs';
import { capture, run } from './process.mjs';
import { dim, duration, heading, secondsSince } from './report.mjs';

/** A step that failed; the output above the message says why. */
export class BuildFailed extends Error {}

async function must(what, command, args, options) {
  const { ok, reason } = await run(command, args, { cwd: root, ...options });
  if (!ok) throw new BuildFailed(`${what} failed: ${command} ${args.join(' ')}: ${reason}`);
}

/** Runs a step unless the stamp in `file` equals `fingerprint`; writes the stamp when it is done. */
async function unlessCurrent(title, file, fingerprint, isPresent, step) {
  if (isPresent && existsSync(file) && readFileSync(file, 'utf8') === fingerprint) {
    console.log(dim(`${title}: up to date`));
    return;
  }
  heading(title);
  const start = process.hrtime.bigint();
  await step();
  writeFileSync(file, fingerprint);
  console.log(dim(`${title}: ${duration(secondsSince(start))}`));
}

/** Installs the npm packages of the lock file, if it or Node changed since the last time. */
export async function installPackages() {
  const lock = join(root, 'package-lock.json');
  const modules = join(root, 'node_modules');
  const fingerprint = digest([readFileSync(lock), process.versions.modules]);
  await unlessCurrent('npm packages', join(modules, '.elgate-stamp'), fingerprint, existsSync(modules), () =>
    must('installing packages', 'npm', ['ci', '--no-audit', '--no-fund']),
  );
}

/** Compiles the TypeScript packages (`tsc` itself decides what is out of date). */
export async function buildTypeScript() {
  heading('TypeScript');
  const start = process.hrtime.bigint();
  await must('compiling TypeScript', 'npx', ['--no-install', 'tsc', '-b']);
  console.log(dim(`TypeScript: ${duration(secondsSince(start))}`));
}

/**
 * The two builds of the addon. They differ in cargo profile, so that neither evicts the other from
 * the target directory.
 */
const VARIANTS = {
  release: { profile: 'release', features: [], file: () => `elgate.${platformTriple()}.node` },
  failpoints: { profile: 'failpoints', features: ['failpoints'], file: () => 'elgate.failpoints.node' },
};

/**
 * Builds the native addon if its sources changed, and puts it where packages/elgate looks for it.
 *
 * @param {'release' | 'failpoints'} variant
 */
export async function buildNative(variant = 'release') {
  const { profile, features, file } = VARIANTS[variant];
  const addon = join(nativeDir, file());
  const commit = await commitOfSources();
  const fingerprint = digest([await capture('rustc', ['-vV']), process.env.RUSTFLAGS, commit, ...sources()]);
  mkdirSync(nativeDir, { recursive: true });
  await unlessCurrent(`native addon (${variant})`, `${addon}.stamp`, fingerprint, existsSync(addon), async () => {
    const target = targetDir();
    const args = ['build', '--locked', '-p', 'elgate-node', '--profile', profile];
    if (features.length > 0) args.push('--features', features.join(','));
    await must('building the addon', 'cargo', args, { env: { CARGO_TARGET_DIR: target, ELGATE_BUILD_SHA: commit } });
    // Renamed into place: a process that has the old addon mapped keeps it whole.
    copyFileSync(join(target, profile, 'libelgate_node.so'), `${addon}.new`);
    renameSync(`${addon}.new`, addon);
  });
}

const MANIFESTS = ['Cargo.toml', 'Cargo.lock'];
const CRATES = 'crates';

/** The commit that last changed the sources, for `elgate status`; `undefined` outside a clone. */
async function commitOfSources() {
  const git = (...args) => capture('git', [...args, '--', ...MANIFESTS, CRATES], { cwd: root });
  const commit = await git('log', '-1', '--format=%h', '--abbrev=12');
  if (!commit) return undefined;
  return (await git('status', '--porcelain')) === '' ? commit : `${commit}+changes`;
}

/** Contents of everything the addon is built from, each led by its name. */
function* sources() {
  for (const name of [...MANIFESTS, ...filesBelow(CRATES)]) {
    yield name;
    yield readFileSync(join(root, name));
  }
}

function filesBelow(directory) {
  return readdirSync(join(root, directory), { withFileTypes: true })
    .flatMap((entry) => {
      const name = join(directory, entry.name);
      if (entry.isDirectory()) return entry.name === 'tests' ? [] : filesBelow(name);
      return /\.(rs|toml)$/.test(entry.name) ? [name] : [];
    })
    .sort();
}

function digest(parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part ?? '').update('\0');
  return hash.digest('hex');
}
