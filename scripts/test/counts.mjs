// How many tests passed, failed and were skipped, read from what the suites print.

import { plain } from '../lib/report.mjs';

/** @typedef {{passed: number, failed: number, skipped: number}} Counts */

/** @returns {Counts} */
export function none() {
  return { passed: 0, failed: 0, skipped: 0 };
}

/** @param {Counts} a @param {Counts} b @returns {Counts} */
export function sum(a, b) {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The last line of everything: `12 passed, 0 failed, 1 skipped`. @param {Counts} counts */
export function format({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

const READERS = {
  // test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
  cargo: (text) =>
    add(text, /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/gm, (match) => ({
      passed: Number(match[1]),
      failed: Number(match[2]),
      skipped: Number(match[3]),
    })),

  //   2 tests passed    1 test failed    1 test skipped    1 test todo    1 known failure
  //   1 uncaught exception    1 unhandled rejection    1 test remained pending
  ava: (text) =>
    add(
      text,
      /^\s*(\d+) (tests? passed|tests? failed|tests? skipped|tests? todo|known failures?|uncaught exceptions?|unhandled rejections?|tests? remained pending)\b/gm,
      (match) => {
        const count = Number(match[1]);
        if (match[2].endsWith('passed')) return { ...none(), passed: count };
        if (/skipped|todo|known/.test(match[2])) return { ...none(), skipped: count };
        return { ...none(), failed: count };
      },
    ),

  // ℹ pass 3 / # pass 3, and the same with fail, cancelled, skipped, todo
  node: (text) =>
    add(text, /^[ℹ#] (pass|fail|cancelled|skipped|todo) (\d+)$/gm, (match) => {
      const count = Number(match[2]);
      if (match[1] === 'pass') return { ...none(), passed: count };
      if (match[1] === 'fail' || match[1] === 'cancelled') return { ...none(), failed: count };
      return { ...none(), skipped: count };
    }),

  // 12 passed, 0 failed, 1 skipped
  own: (text) =>
    add(text, /^(\d+) passed, (\d+) failed, (\d+) skipped$/gm, (match) => ({
      passed: Number(match[1]),
      failed: Number(match[2]),
      skipped: Number(match[3]),
    })),
};

function add(text, pattern, read) {
  return [...text.matchAll(pattern)].map(read).reduce(sum, none());
}

/**
 * Counts of a finished suite. A suite that failed without naming a failed test counts as one
 * failure, and so does one that ran nothing at all: silence is not success.
 *
 * @param {'cargo' | 'ava' | 'node' | 'own' | 'check' | 'setup'} kind what printed the text; a
 *   `check` has no counts of its own and is one test; a `setup` is none, unless it fails
 * @param {{ok: boolean, text: string, reason: string}} outcome
 * @returns {Counts & {reason: string}}
 */
export function countsOf(kind, { ok, text, reason }) {
  if (kind === 'setup') return { ...none(), failed: ok ? 0 : 1, reason };
  if (kind === 'check') return { ...none(), [ok ? 'passed' : 'failed']: 1, reason };
  const counts = READERS[kind](plain(text));
  if (!ok && counts.failed === 0) return { ...counts, failed: 1, reason };
  const total = counts.passed + counts.failed + counts.skipped;
  if (total === 0) return { ...counts, failed: 1, reason: 'it printed no result of any test' };
  return { ...counts, reason };
}
