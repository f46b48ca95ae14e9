// A program of ours that measures in a process of its own: one request, one answer, so that its
// rounds alternate with everybody else's.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { start } from './children.mjs';

export class Answerer {
  #child;
  #lines;
  #name;

  constructor(program, args) {
    this.#name = basename(program);
    this.#child = start(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    // Its end is noticed where its answer is missing.
    this.#child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get pid() {
    return this.#child.pid;
  }

  /** @returns {Promise<any>} its answer */
  async request(text) {
    this.#child.stdin.write(`${text}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.#name} ended at the request '${text}'`);
    return JSON.parse(value);
  }

  /** Lets it finish, which may include checking what it stored. */
  async close() {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    const [code] = await ended;
    if (code !== 0) throw new Error(`${this.#name} ended with exit code ${code}`);
  }

  kill() {
    this.#child.kill('SIGKILL');
  }
}

/** Builds a program with cargo. */
export function build(what, args, { cwd, target }) {
  const built = spawnSync('cargo', ['build', '--release', '--locked', ...args], {
    cwd,
    env: { ...process.env, CARGO_TARGET_DIR: target },
    stdio: ['ignore', process.stderr, process.stderr],
  });
  if (built.status !== 0) throw new Error(`cannot build ${what}: ${built.error?.message ?? 'see above'}`);
}
