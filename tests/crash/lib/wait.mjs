// Waiting for conditions, never for time: every wait has a condition, a limit, and words for when it is not met.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One turn of the event loop: what was written to a pipe is on its way. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Milliseconds on the monotonic clock. */
export const now = () => Number(process.hrtime.bigint()) / 1e6;

/**
 * Polls `condition` until it returns something truthy and returns that. Throws, naming `what`, after
 * `timeoutMs`, or at once when `abort` returns a reason why the condition can no longer come true.
 */
export async function until(what, condition, { timeoutMs = 20_000, everyMs = 1, abort } = {}) {
  const started = now();
  for (;;) {
    const value = await condition();
    if (value) return value;
    const reason = abort?.();
    if (reason) throw new Error(`waiting for ${what}: ${reason}`);
    if (now() - started > timeoutMs) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(everyMs);
  }
}

/** Spins for a fraction of a millisecond up to a few, finer than timers can. */
export function spin(us) {
  const end = process.hrtime.bigint() + BigInt(Math.floor(us * 1000));
  while (process.hrtime.bigint() < end);
}
