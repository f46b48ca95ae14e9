// What every case of bad input uses: one error with its code and its way out, a gate with a file route, and records
// that must still be there afterwards.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeGate } from '../../crash/lib/gate.mjs';
import { until } from '../../crash/lib/wait.mjs';

export const WRITER = path.join(path.dirname(fileURLToPath(import.meta.url)), 'writer.mjs');

/** Thrown by a case for which the machine lacks something. */
export class Lacking extends Error {}

export function expect(condition, story) {
  if (!condition) throw new Error(story);
}

/**
 * One clear error on stderr: exactly one line with an ERR_ELGATE code, which is `code`; every pattern of `words` in it;
 * no stack, no panic; the given exit code.
 */
export function expectError(
  { code: exit, signal, timedOut, stderr, stdout },
  { code, words = [], exit: expected = 1 },
) {
  const story = `${signal ?? `exit ${exit}`}${timedOut ? ' (did not end)' : ''}, stderr: ${stderr.trim() || '(empty)'}, stdout: ${stdout?.trim() ?? ''}`;
  expect(!timedOut && exit === expected, `expected exit ${expected}: ${story}`);
  const lines = stderr.split('\n').filter((line) => line.includes('ERR_ELGATE_'));
  if (code !== undefined) {
    expect(lines.length === 1, `expected one line with an error code: ${story}`);
    expect(lines[0].includes(code), `expected ${code}: ${story}`);
  }
  expect(!/panicked|^\s+at .+:\d+:\d+/m.test(stderr), `a stack instead of words: ${story}`);
  const text = code === undefined ? stderr : lines[0];
  for (const word of words) expect(word.test(text), `the message does not say ${word}: ${story}`);
}

/** A running daemon with one file route, `access`, and `more` routes. */
export async function runningGate(sandbox, { more = {}, ...options } = {}) {
  const gate = await makeGate(sandbox, {
    routes: { access: { sink: 'file', path: 'access.log' }, ...more },
    ...options,
  });
  await gate.daemon.start().ready();
  return gate;
}

/** Puts numbered lines through the CLI and remembers them in `gate.expected`. */
export async function putLines(sandbox, gate, count, { route = 'access' } = {}) {
  gate.expected ??= {};
  gate.expected[route] ??= [];
  const lines = Array.from(
    { length: count },
    (_, index) => `record ${gate.expected[route].length + index + 1} of ${route}`,
  );
  const result = await sandbox.cli(['put', route, '--json', '--config', gate.config], {
    input: `${lines.join('\n')}\n`,
  });
  expect(result.code === 0, `put failed: ${result.stderr}`);
  gate.expected[route].push(...lines);
  return lines;
}

/** The file route's output is exactly what was put: nothing lost, nothing twice, in order. */
export async function expectDelivered(gate, route = 'access') {
  const wanted = gate.expected[route].map((line) => `${line}\n`).join('');
  const file = gate.outputOf(route);
  const actual = () => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '');
  await until(`${wanted.length} bytes in ${file}`, () => actual().length >= wanted.length, {
    everyMs: 10,
    abort: () => gate.daemon.deathReason(),
  });
  expect(actual() === wanted, `${file} is not what was put:\n${actual().slice(-300)}`);
}

/** The records of a log as `elgate tail --json` gives them: `{ code, records: [{ lsn, … }], stderr }`. */
export async function tailAll(sandbox, gate, route = 'access') {
  const result = await sandbox.cli(['tail', route, '--from', 'start', '--json', '--config', gate.config], {
    timeoutMs: 20_000,
  });
  const records = result.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return { ...result, records };
}

/** A route's row in the daemon's status. */
export async function routeStatus(gate, route) {
  const status = await gate.daemon.status();
  const row = status.routes.find(({ name }) => name === route);
  expect(row !== undefined, `status has no route ${route}: ${JSON.stringify(status.routes)}`);
  return row;
}

/** Runs the library in a process of its own (writer.mjs) with a list of steps; resolves to its outcomes. */
export async function write(sandbox, gate, steps, options = {}) {
  const result = await sandbox.run(process.execPath, [WRITER, JSON.stringify(steps)], { env: gate.env, ...options });
  expect(result.code === 0, `the writer failed: ${result.stderr}`);
  return JSON.parse(result.stdout.trim().split('\n').at(-1));
}

/** `serve` that is expected to refuse: its outcome. */
export const serve = (sandbox, config, options) =>
  sandbox.cli(['serve', '--config', config], { timeoutMs: 15_000, ...options });

/** Names and sizes below a directory, for "nothing deleted". */
export function listing(directory) {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}
