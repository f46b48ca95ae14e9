// The Rust side of the benchmarks, in a process of its own: the bare device, and the log through
// its Rust interface. One request, one answer, so that rounds alternate with everybody else's.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root, targetDir } from '../../scripts/lib/paths.mjs';

export class Device {
  #child;
  #lines;

  /** Builds the program if need be, and starts it. Its files go to `directory`. */
  static async start(directory) {
    const target = targetDir();
    const built = spawnSync('cargo', ['build', '--release', '--locked', '-p', 'elgate-bench-log'], {
      cwd: root,
      env: { ...process.env, CARGO_TARGET_DIR: target },
      stdio: ['ignore', process.stderr, process.stderr],
    });
    if (built.status !== 0) throw new Error(`cannot build elgate-bench-log: ${built.error?.message ?? 'see above'}`);
    return new Device(join(target, 'release/elgate-bench-log'), directory);
  }

  constructor(program, directory) {
    this.#child = spawn(program, [directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @returns {Promise<Record<string, number>>} */
  async request(text) {
    this.#child.stdin.write(`${text}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`elgate-bench-log ended at the request '${text}'`);
    return JSON.parse(value);
  }

  /**
   * What it measures, as somebody who takes turns.
   *
   * @param {'floor' | 'log'} name
   * @returns {import('./rounds.mjs').Contestant}
   */
  contestant(name, seconds) {
    return {
      name,
      single: () => this.request(`${name}-single ${seconds}`),
      volume: () => this.request(`${name}-volume ${seconds}`),
      close: () => this.close(),
      kill: () => this.kill(),
    };
  }

  /** Lets it finish. */
  async close() {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    const [code] = await ended;
    if (code !== 0) throw new Error(`elgate-bench-log ended with exit code ${code}`);
  }

  kill() {
    this.#child.kill('SIGKILL');
  }
}
