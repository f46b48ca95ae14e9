// A phase's own place: a directory on a real file system, a ring of its own, and the processes it started.
// Everything in it is ended (by pid) and removed at the end, also after a failure or Ctrl-C.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const MEMORY_FILE_SYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);

export const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const CLI = path.join(REPOSITORY, 'packages/elgate/dist/cli/main.js');
export const FAILPOINTS_ADDON = path.join(REPOSITORY, 'packages/elgate/native/elgate.failpoints.node');

/** What lets a child die with this process, even when that is killed; nothing where there is no such program. */
const TOGETHER = ['setpriv', '--pdeathsig', 'KILL', '--'];
const together = spawnSync(TOGETHER[0], [...TOGETHER.slice(1), 'true']).status === 0 ? TOGETHER : [];

const open = new Set();
let count = 0;
let base;

/** The first of $TMPDIR, /var/tmp and the repository's cache that is not memory: tmpfs proves nothing about a sync. */
export function realDirectory(say = console.error) {
  if (base) return base;
  const cache = path.join(REPOSITORY, '.cache');
  for (const candidate of [os.tmpdir(), '/var/tmp', cache]) {
    if (candidate === cache) fs.mkdirSync(cache, { recursive: true });
    if (!fs.existsSync(candidate)) continue;
    const memory = MEMORY_FILE_SYSTEMS.get(Number(fs.statfsSync(candidate).type));
    if (!memory) {
      base = candidate;
      return base;
    }
    say(`refusing ${candidate}: it is ${memory}, which proves nothing about a sync; trying the next place`);
  }
  throw new Error('every temporary directory is in memory: set TMPDIR to a directory on a real disk');
}

/** A TCP port of the loopback interface that is free now. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export class Sandbox {
  #children = new Set();
  #undo = [];

  constructor(name) {
    count += 1;
    this.dir = fs.mkdtempSync(path.join(realDirectory(), `elgate-${name}-`));
    this.ring = `/dev/shm/elgate-test-${process.pid}-${count}`;
    open.add(this);
  }

  path(...parts) {
    return path.join(this.dir, ...parts);
  }

  write(name, text) {
    fs.writeFileSync(this.path(name), text);
    return this.path(name);
  }

  /** Runs `step` when the sandbox closes, before its directory is removed: unmounting, for example. */
  undo(step) {
    this.#undo.push(step);
  }

  /**
   * Starts a process whose output goes to `<log>` in this sandbox, unless `stdio` says otherwise. The child gets
   * `ended`, a promise of `{ code, signal }`.
   */
  spawn(command, args, { log, stdio, env = {}, cwd = this.dir } = {}) {
    const descriptor = log ? fs.openSync(this.path(log), 'a') : undefined;
    const [program, ...rest] = [...together, command, ...args];
    const child = spawn(program, rest, {
      cwd,
      env: { ...cleanEnvironment(), ...env },
      stdio: stdio ? stdio.map((entry) => (entry === 'log' ? descriptor : entry)) : ['ignore', descriptor, descriptor],
    });
    if (descriptor !== undefined) fs.closeSync(descriptor);
    this.#children.add(child);
    child.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        this.#children.delete(child);
        resolve({ code, signal });
      });
    });
    child.ended.catch(() => this.#children.delete(child));
    return child;
  }

  /** Runs a process to its end and returns what it said. Never throws for an exit code. */
  async run(command, args, { input, timeoutMs = 60_000, ...options } = {}) {
    const child = this.spawn(command, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
    const out = [];
    const err = [];
    child.stdout.on('data', (chunk) => out.push(chunk));
    child.stderr.on('data', (chunk) => err.push(chunk));
    child.stdin.on('error', () => {});
    child.stdin.end(input ?? '');
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    const { code, signal } = await child.ended;
    clearTimeout(timer);
    return { code, signal, timedOut, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
  }

  /** `elgate ...` to its end. */
  cli(args, options) {
    return this.run(process.execPath, [CLI, ...args], options);
  }

  /** The last lines of a log in this sandbox, for the story of a failure. */
  tailOf(log, lines = 15) {
    try {
      return fs.readFileSync(this.path(log), 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
    } catch {
      return '(no output)';
    }
  }

  async close() {
    open.delete(this);
    for (const child of this.#children) endByPid(child);
    await Promise.allSettled([...this.#children].map((child) => child.ended));
    this.#removeFiles();
  }

  closeNow() {
    open.delete(this);
    for (const child of this.#children) endByPid(child);
    this.#removeFiles();
  }

  #removeFiles() {
    for (const step of this.#undo.splice(0).reverse()) {
      try {
        step();
      } catch (error) {
        console.error(`cleaning up ${this.dir}: ${error.message}`);
      }
    }
    if (process.env.ELGATE_TEST_KEEP) {
      console.error(`kept ${this.dir}`);
    } else {
      fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
    }
    for (const name of fs.readdirSync('/dev/shm')) {
      const own = path.basename(this.ring);
      if (name === own || name.startsWith(`${own}.`)) fs.rmSync(path.join('/dev/shm', name), { force: true });
    }
  }
}

/** Closes every open sandbox when the process is interrupted or ends. */
export function closeOnExit() {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    process.once(signal, () => {
      for (const sandbox of [...open]) sandbox.closeNow();
      process.exit(code);
    });
  }
  process.once('exit', () => {
    for (const sandbox of [...open]) sandbox.closeNow();
  });
}

function endByPid(child) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGCONT');
  child.kill('SIGKILL');
}

/** The environment without settings of the caller's own Elgate, which would reach into the test. */
function cleanEnvironment() {
  // ELGATE_NATIVE: another build of the addon, to see a broken one caught.
  const kept = ['ELGATE_TEST_KEEP', 'ELGATE_BACKEND', 'ELGATE_NATIVE', 'ELGATE_SEEDED_BUG'];
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('ELGATE_') || kept.includes(name));
  return { ...Object.fromEntries(entries), NO_COLOR: '1' };
}
