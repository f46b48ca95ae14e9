// The command line as a process of its own.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const FAKE = fileURLToPath(new URL('./fake-addon.ts', import.meta.url));

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What it reads; `open`: what the test writes to `child.stdin`. */
  stdin?: string | Buffer | { open: true };
}

/** A running command, what it has printed, and its end. */
export class Running {
  stdout = '';
  stderr = '';
  readonly ended: Promise<Outcome>;
  #changed: () => void = () => {};

  constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding('latin1').on('data', (text) => {
      this.stdout += text;
      this.#changed();
    });
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
      this.#changed();
    });
    this.ended = new Promise((resolve) => {
      child.on('close', (code, signal) => {
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
        this.#changed();
      });
    });
  }

  /** Resolves when something was printed that matches; rejects when the process ended without. */
  async printed(pattern: RegExp): Promise<void> {
    let over = false;
    void this.ended.then(() => {
      over = true;
    });
    while (!pattern.test(this.stdout + this.stderr)) {
      if (over) throw new Error(`ended without printing ${pattern}:\n${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** Starts a command. With `env.ELGATE_NATIVE` unset it gets the addon that is built, else the fake. */
export function start(args: string[], options: CliOptions = {}): Running {
  return startNode([MAIN, ...args], options);
}

/** Starts a program under Node with TypeScript. */
export function startNode(args: string[], options: CliOptions = {}): Running {
  const { stdin = '', cwd, env } = options;
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith('ELGATE_') || name === 'ELGATE_BACKEND' || name === 'ELGATE_NATIVE',
    ),
  );
  const spawning: SpawnOptions = {
    env: { ...inherited, ...env },
    stdio: 'pipe',
    ...(cwd === undefined ? {} : { cwd }),
  };
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), ...args], spawning);
  child.stdin?.on('error', () => {});
  if (typeof stdin === 'string' || Buffer.isBuffer(stdin)) child.stdin?.end(stdin);
  return new Running(child);
}

export function run(args: string[], options: CliOptions = {}): Promise<Outcome> {
  return start(args, options).ended;
}

/** As `run`, with the fake addon. */
export function runFake(args: string[], options: CliOptions = {}): Promise<Outcome> {
  return startFake(args, options).ended;
}

export function startFake(args: string[], options: CliOptions = {}): Running {
  return start(args, { ...options, env: { ELGATE_NATIVE: FAKE, ...options.env } });
}

/** `elgate COMMAND` by a shell, with the fake addon and the redirections that `command` has. */
export function shellFake(command: string, options: CliOptions = {}): Promise<Outcome> {
  const { cwd, env } = options;
  const node = [process.execPath, '--import', import.meta.resolve('tsx'), MAIN].map((part) => `'${part}'`).join(' ');
  const spawning: SpawnOptions = {
    env: { ...process.env, ELGATE_NATIVE: FAKE, ...env },
    stdio: 'pipe',
    ...(cwd === undefined ? {} : { cwd }),
  };
  return new Running(spawn('/bin/sh', ['-c', `exec ${node} ${command}`], spawning)).ended;
}
