// Feeds lines into one `elgate put ROUTE --json` through its standard input, as fast or slowly as the phase wants, so that
// kills land while data flows. The put lives through all of them.

import { CLI } from './sandbox.mjs';
import { now } from './wait.mjs';

export class Feed {
  #lines;
  #child;
  #out = [];
  fed = 0;

  constructor(sandbox, { config, route, lines, level = 'durable', env }) {
    this.#lines = lines;
    this.sandbox = sandbox;
    this.log = `put-${route}.log`;
    this.startedAt = now();
    this.#child = sandbox.spawn(process.execPath, [CLI, 'put', route, '--json', '--wait', level, '--config', config], {
      log: this.log,
      stdio: ['pipe', 'pipe', 'log'],
      env,
    });
    this.#child.stdout.on('data', (chunk) => this.#out.push(chunk));
    // A put that dies is reported by `finish` with what it said; the broken pipe adds nothing.
    this.#child.stdin.on('error', () => {});
  }

  get pid() {
    return this.#child.pid;
  }

  get left() {
    return this.#lines.count - this.fed;
  }

  /** Bytes given to the put that it has not read yet. */
  get waiting() {
    return this.#child.stdin.writableLength;
  }

  /** Hands over the next `count` lines, or as many as are left. */
  give(count) {
    const to = Math.min(this.fed + count, this.#lines.count);
    if (to > this.fed) this.#child.stdin.write(this.#lines.bytes(this.fed, to));
    this.fed = to;
  }

  /** Why no more can be expected; undefined while the put runs. */
  deathReason() {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) return undefined;
    return `put ended (${signalCode ?? `exit ${exitCode}`}):\n${this.sandbox.tailOf(this.log)}`;
  }

  /** Gives what is left, ends the input, and returns the put's exit code and its JSON summary. */
  async finish(timeoutMs = 60_000) {
    this.give(this.left);
    this.#child.stdin.end();
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      this.#child.kill('SIGKILL');
    }, timeoutMs);
    const { code, signal } = await this.#child.ended;
    clearTimeout(timer);
    const text = Buffer.concat(this.#out).toString().trim();
    let summary;
    try {
      summary = JSON.parse(text.split('\n').at(-1));
    } catch {
      summary = undefined;
    }
    const story = timedOut
      ? `it did not end within ${timeoutMs} ms`
      : `${signal ?? `exit ${code}`}: ${text || this.sandbox.tailOf(this.log)}`;
    return { code, summary, story };
  }
}
