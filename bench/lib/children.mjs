// Programs that a run has started: none of them outlives it.

import { spawn } from 'node:child_process';

const running = new Set();

/** Starts a program that is ended with this process, however that ends. */
export function start(command, args, options) {
  const child = spawn(command, args, options);
  running.add(child);
  child.once('close', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** From here on a signal ends this process with what it has started, and whatever waits for its `exit` happens. */
export function endOnSignal() {
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }))
    process.once(signal, () => process.exit(128 + number));
}
