// The daemon under test: the real `elgate serve` as a process of its own, started, killed and started again.

import fs from 'node:fs';
import http from 'node:http';
import { CLI } from './sandbox.mjs';
import { now, until } from './wait.mjs';

export class Daemon {
  #child;
  #expected = false;
  kills = 0;

  /**
   * `config` is the path of an elgate.toml; `admin` is "host:port" as written there; `prefix` is what confines the
   * process before it becomes the daemon, such as ['prlimit', '--fsize=…']; `args` are further ones of `serve`.
   */
  constructor(sandbox, { config, admin, env = {}, prefix = [], args = [], log = 'daemon.log' }) {
    Object.assign(this, { sandbox, config, admin, env, prefix, args, log });
  }

  get pid() {
    return this.#child?.pid;
  }

  get alive() {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Starts the process and returns at once; the caller waits for the progress it is interested in. */
  start(env = {}) {
    if (this.alive) throw new Error('the daemon is running already');
    this.#expected = false;
    this.startedAt = now();
    const serve = [CLI, 'serve', '--config', this.config, ...this.args];
    const [command, ...args] = [...this.prefix, process.execPath, ...serve];
    this.#child = this.sandbox.spawn(command, args, {
      log: this.log,
      env: { ...this.env, ...env },
    });
    return this;
  }

  /** Why nothing can be expected of the daemon any more; undefined while all is well. For `until`'s `abort`. */
  deathReason() {
    if (this.alive || this.#expected) return undefined;
    const { exitCode, signalCode } = this.#child ?? {};
    return `the daemon ended by itself (${signalCode ?? `exit ${exitCode}`}):\n${this.sandbox.tailOf(this.log)}`;
  }

  /** Waits until the control API says that the daemon is ready. */
  async ready(timeoutMs = 20_000) {
    await until(
      'the daemon to be ready',
      async () => (await this.get('/readyz').catch(() => undefined))?.status === 200,
      {
        timeoutMs,
        everyMs: 10,
        abort: () => this.deathReason(),
      },
    );
    return this;
  }

  /** SIGKILL; resolves when the kernel has buried it. */
  async kill() {
    if (!this.alive) throw new Error(this.deathReason() ?? 'the daemon is not running');
    this.#expected = true;
    this.kills += 1;
    this.#child.kill('SIGKILL');
    return this.#child.ended;
  }

  /** SIGSTOP, SIGCONT, or another signal that it lives through. */
  signal(name) {
    this.#child.kill(name);
  }

  /** SIGTERM, and its exit code; SIGKILL if it does not drain within the limit. */
  async stop(timeoutMs = 20_000) {
    if (!this.alive) return undefined;
    this.#expected = true;
    const child = this.#child;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const outcome = await child.ended;
    clearTimeout(timer);
    return outcome;
  }

  /** Waits until the process ends by itself, as at a kill site. Undefined if it does not within the limit. */
  async died(timeoutMs) {
    this.#expected = true;
    let timer;
    const limit = new Promise((resolve) => (timer = setTimeout(resolve, timeoutMs)));
    const outcome = await Promise.race([this.#child.ended, limit]);
    clearTimeout(timer);
    if (outcome === undefined) this.#expected = false;
    return outcome;
  }

  get(path) {
    return request(this.admin, 'GET', path, { agent: this.agent });
  }

  post(path, body) {
    return request(this.admin, 'POST', path, { body, agent: this.agent });
  }

  async status() {
    return (await this.get('/status')).json;
  }

  openFiles() {
    return fs.readdirSync(`/proc/${this.pid}/fd`).length;
  }
}

/** One request to the control API: `{ status, text, json }`. Over a connection of its own, unless `agent` has one. */
export function request(admin, method, path, { body, agent = false } = {}) {
  const [host, port] = admin.split(':');
  const text = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const headers =
      text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const outgoing = http.request({ host, port, method, path, headers, agent, timeout: 5_000 }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const answer = Buffer.concat(chunks).toString();
        let json;
        try {
          json = JSON.parse(answer);
        } catch {
          json = undefined;
        }
        resolve({ status: response.statusCode, text: answer, json });
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer to ${method} ${path} within 5 s`)));
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}
