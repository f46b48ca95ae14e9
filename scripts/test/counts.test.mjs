import assert from 'node:assert/strict';
import test from 'node:test';
import { countsOf, format } from './counts.mjs';

const of = (kind, text, ok = true) => {
  const { passed, failed, skipped } = countsOf(kind, { ok, text, reason: ok ? '' : 'exit code 1' });
  return [passed, failed, skipped];
};

test('cargo: every test binary counts', () => {
  const text = [
    'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s',
    '\u001b[32mtest result\u001b[0m: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s',
  ].join('\n');
  assert.deepEqual(of('cargo', text, false), [5, 4, 1]);
});

test('ava: exceptions and tests that never ended are failures', () => {
  const text = '  ─\n\n  12 tests passed\n  1 test failed\n  2 tests skipped\n  1 uncaught exception\n  1 test todo\n';
  assert.deepEqual(of('ava', text, false), [12, 2, 3]);
});

test('node: both reporters', () => {
  assert.deepEqual(of('node', 'ℹ tests 3\nℹ pass 2\nℹ fail 1\nℹ skipped 0\n', false), [2, 1, 0]);
  assert.deepEqual(of('node', '# tests 3\n# pass 2\n# fail 0\n# skipped 1\n'), [2, 0, 1]);
});

test('own: the line of our own suites', () => {
  assert.deepEqual(of('own', 'kill 1\n7 passed, 0 failed, 1 skipped\n'), [7, 0, 1]);
});

test('a suite that fails without a failed test is a failure', () => {
  assert.deepEqual(of('cargo', 'error: could not compile', false), [0, 1, 0]);
});

test('a suite that ran nothing is a failure', () => {
  assert.deepEqual(of('ava', 'all quiet'), [0, 1, 0]);
});

test('a check is one test', () => {
  assert.deepEqual(of('check', ''), [1, 0, 0]);
  assert.deepEqual(of('check', '', false), [0, 1, 0]);
});

test('a setup is no test, unless it fails', () => {
  assert.deepEqual(of('setup', ''), [0, 0, 0]);
  assert.deepEqual(of('setup', '', false), [0, 1, 0]);
});

test('the final line', () => {
  assert.equal(format({ passed: 12, failed: 0, skipped: 1 }), '12 passed, 0 failed, 1 skipped');
});
