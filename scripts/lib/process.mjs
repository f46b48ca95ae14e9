// Running other programs: streamed to the terminal, captured, bounded in time, and never left behind.

import { spawn } from 'node:child_process';

/** How much of a program's output is kept for parsing. The stream itself is not cut. */
const CAPTURE_BYTES_MAX = 8 * 1024 * 1024;

const running = new Set();

/**
 * Runs a program in its own process group and waits for it.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{cwd?: string, env?: Record<string, string | undefined>, timeoutSeconds?: number, quiet?: boolean}} options
 *   `env` is laid over this process's environment; `quiet` captures without showing.
 * @returns {Promise<{ok: boolean, code: number | null, text: string, reason: string}>}
 *   Never rejects: a program that cannot be started has `ok: false` and says why in `reason`.
 */
export function run(command, args, options = {}) {
  const { cwd, env = {}, timeoutSeconds = 1200, quiet = false } = options;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const chunks = [];
    let captured = 0;
    let reason = '';
    const timer = setTimeout(() => {
      reason = `still running after ${timeoutSeconds} s, stopped`;
      killGroup(child);
    }, timeoutSeconds * 1000);

    const take = (stream, out) =>
      stream.on('data', (chunk) => {
        if (!quiet) out.write(chunk);
        if (captured < CAPTURE_BYTES_MAX) chunks.push(chunk);
        captured += chunk.length;
      });
    take(child.stdout, process.stdout);
    take(child.stderr, process.stderr);

    running.add(child);
    const finish = (code, signal, error) => {
      clearTimeout(timer);
      running.delete(child);
      if (error) reason = error.code === 'ENOENT' ? `${command} is not installed` : error.message;
      else if (!reason && signal) reason = `ended by ${signal}`;
      else if (!reason && code !== 0) reason = `exit code ${code}`;
      resolve({ ok: reason === '', code, text: Buffer.concat(chunks).toString(), reason });
    };
    child.on('error', (error) => finish(null, null, error));
    child.on('close', (code, signal) => finish(code, signal));
  });
}

/** Runs a program whose standard output is the answer; `undefined` if it fails. */
export async function capture(command, args, options = {}) {
  const { ok, text } = await run(command, args, { ...options, quiet: true });
  return ok ? text.trim() : undefined;
}

/**
 * From here on, an interrupt or a termination ends this process and whatever {@link run} has
 * started. `until`, when given, lifts that again.
 */
export function endChildrenOnSignal({ until } = {}) {
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
  ]) {
    const end = () => {
      for (const child of running) killGroup(child);
      process.exit(128 + number);
    };
    process.on(signal, end);
    until?.addEventListener('abort', () => process.off(signal, end));
  }
}

function killGroup(child) {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
