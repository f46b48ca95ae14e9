// Kills the daemon again and again while data flows, and proves that it did: a kill counts only if the daemon had
// made progress since its start (or had work waiting in the ring while it recovered) and still had some to do.

import { now, sleep, spin, turn, until } from './wait.mjs';

/** No restart may take longer than this until acknowledgements come again. */
const RESUME_LIMIT_MS = 15_000;
const RECOVERY_SHARE = 0.2;
const WAIT_MS = 30_000;

/**
 * `phase` provides:
 *   daemon            the Daemon, running
 *   random            its own stream of randomness
 *   progress()        a number that grows while data flows
 *   outstanding()     how much has been handed over and not come through yet
 *   burst()           hands over a little more
 *   trickle()         hands over much less
 *   abort()           why it makes no sense to go on, or undefined
 *   step              most progress to wait for between two bursts
 */
export class Assassin {
  kills = { flow: 0, recovery: 0, idle: 0 };
  resumed = [];
  #startupMs = 300;
  #base;

  constructor(phase) {
    this.phase = phase;
    this.#base = phase.progress();
    this.#since = now();
  }

  #since;

  get counted() {
    return this.kills.flow + this.kills.recovery;
  }

  /** One kill and one start. */
  async strike() {
    const { random, daemon } = this.phase;
    if (this.counted > 0 && random.chance(RECOVERY_SHARE)) await this.#duringRecovery();
    else await this.#duringFlow();
    await daemon.kill();
    this.phase.burst();
    this.#base = this.phase.progress();
    this.#since = now();
    daemon.start();
  }

  /** Waits until progress comes again after the last start, and notes how long that took. */
  async resume() {
    const { progress } = this.phase;
    await until('progress after a restart', () => progress() > this.#base, {
      timeoutMs: WAIT_MS,
      abort: this.phase.abort,
    });
    const ms = now() - this.#since;
    this.#startupMs = this.#startupMs * 0.8 + ms * 0.2;
    this.resumed.push({ label: `start ${this.resumed.length + 1}`, ms, limit: RESUME_LIMIT_MS });
  }

  async #duringFlow() {
    const { random, progress, outstanding, burst, trickle, step } = this.phase;
    burst();
    await this.resume();
    for (let bursts = random.int(0, 2); bursts > 0; bursts -= 1) {
      const target = progress() + random.int(1, Math.max(1, step));
      burst();
      await until('progress within a round', () => progress() >= target || outstanding() === 0, {
        timeoutMs: WAIT_MS,
        abort: this.phase.abort,
      });
    }
    // Flowing up to the last moment, so that the kill lands inside.
    for (let ms = random.int(0, 6); ms > 0; ms -= 1) {
      trickle();
      await sleep(1);
    }
    burst();
    await turn();
    spin(random.int(0, 800));
    this.kills[outstanding() > 0 ? 'flow' : 'idle'] += 1;
  }

  /** Before the daemon is up: while it loads, scans, cuts, replays the ring. */
  async #duringRecovery() {
    const { random, progress, outstanding, burst } = this.phase;
    burst();
    const limit = random.next() * this.#startupMs * 1.2;
    await sleep(limit);
    const moved = progress() > this.#base;
    const kind = outstanding() === 0 ? 'idle' : moved ? 'flow' : 'recovery';
    this.kills[kind] += 1;
  }
}
