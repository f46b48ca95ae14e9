// Dependencies point down only, and each outside dependency that shapes the design has one home.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What each crate of the workspace may depend on. Anything else is a wrong turn. */
const MAY_USE = {
  'elgate-types': [],
  'elgate-io': ['elgate-types'],
  'elgate-http': ['elgate-types', 'elgate-io'],
  'elgate-ring': ['elgate-types', 'elgate-io'],
  'elgate-log': ['elgate-types', 'elgate-io'],
  'elgate-net': ['elgate-types', 'elgate-io', 'elgate-http'],
  'elgate-client': ['elgate-types', 'elgate-io', 'elgate-ring', 'elgate-log'],
  'elgate-engine': ['elgate-types', 'elgate-io', 'elgate-http', 'elgate-ring', 'elgate-log', 'elgate-net'],
  'elgate-node': ['elgate-types', 'elgate-io', 'elgate-log', 'elgate-client', 'elgate-engine'],
  // Not part of the product.
  'elgate-sim': ['elgate-types', 'elgate-io', 'elgate-ring', 'elgate-log', 'elgate-engine'],
  'elgate-bench-log': ['elgate-types', 'elgate-io', 'elgate-log', 'elgate-client', 'elgate-engine'],
  'elgate-sandbox': [],
  'elgate-fault-disk': [],
};

/** What only its tests may use besides: a real producer in front of a real engine. */
const MAY_USE_IN_TESTS = { 'elgate-engine': ['elgate-client'] };

/** Outside crates that only these crates may use. */
const ONLY_IN = {
  'io-uring': ['elgate-io'],
  napi: ['elgate-node'],
  'napi-derive': ['elgate-node'],
  memmap2: ['elgate-io', 'elgate-ring'],
  httparse: ['elgate-http'],
};

/** What reads a clock or chance of its own, or brings a runtime: in no crate of the product. */
const NOWHERE = ['tokio', 'async-std', 'smol', 'rand', 'chrono', 'time'];

const metadata = JSON.parse(
  execFileSync('cargo', ['metadata', '--format-version', '1', '--no-deps', '--locked'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  }),
);
const crates = metadata.packages;
const isOurs = (name) => crates.some((crate) => crate.name === name);
const mayUse = (crate, { name, kind }) =>
  name === crate.name ||
  (MAY_USE[crate.name] ?? []).includes(name) ||
  (kind === 'dev' && (MAY_USE_IN_TESTS[crate.name] ?? []).includes(name));
const arrow = (crate, { name, kind }) => `${crate.name} -> ${name}${kind ? ` (${kind})` : ''}`;

test('every crate of the workspace has its place in the table', () => {
  assert.deepEqual(
    crates.map((crate) => crate.name).filter((name) => !(name in MAY_USE)),
    [],
  );
});

test('dependencies between our crates point down', () => {
  const wrong = crates.flatMap((crate) =>
    crate.dependencies
      .filter((dependency) => isOurs(dependency.name) && !mayUse(crate, dependency))
      .map((dependency) => arrow(crate, dependency)),
  );
  assert.deepEqual(wrong, [], 'see the map in docs/ARCHITECTURE.md');
});

test('the table itself has no way back up', () => {
  const below = (name, seen = []) => {
    assert.ok(!seen.includes(name), `a circle: ${[...seen, name].join(' -> ')}`);
    for (const next of MAY_USE[name]) below(next, [...seen, name]);
  };
  for (const name of Object.keys(MAY_USE)) below(name);
});

test('each shaping dependency has one home', () => {
  const wrong = crates.flatMap((crate) =>
    crate.dependencies
      .filter(({ name }) => name in ONLY_IN && !ONLY_IN[name].includes(crate.name))
      .map((dependency) => arrow(crate, dependency)),
  );
  assert.deepEqual(wrong, []);
});

test('no runtime, no clock and no chance of its own in any crate', () => {
  const wrong = crates.flatMap((crate) =>
    crate.dependencies.filter(({ name }) => NOWHERE.includes(name)).map((dependency) => arrow(crate, dependency)),
  );
  assert.deepEqual(wrong, []);
});

test('every crate says what it is, under the one licence, with the workspace lints', () => {
  for (const crate of crates) {
    assert.ok(crate.description?.length >= 20 && !/TBD|TODO/.test(crate.description), `${crate.name}: describe it`);
    assert.equal(crate.license, 'MIT', crate.name);
    assert.match(readFileSync(crate.manifest_path, 'utf8'), /\[lints\]\nworkspace = true/, crate.name);
  }
});

test('docs/ARCHITECTURE.md names every crate', () => {
  const map = readFileSync(join(root, 'docs/ARCHITECTURE.md'), 'utf8');
  const product = crates.map((crate) => crate.name);
  assert.deepEqual(
    product.filter((name) => !map.includes(`\`${name}\``)),
    [],
  );
});
