// The Rust side of the benchmarks: the bare device, the log through its Rust interface, the engine.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, targetDir } from '../../scripts/lib/paths.mjs';
import { Answerer, build } from './answerer.mjs';

/** How long to wait at most for a device that slows down who has written much: at a time, and in all. */
const REST_S = 5;
const REST_TOTAL_S = 120;

const SIZES = { full: { segmentMib: 64, openMib: 4096 }, quick: { segmentMib: 4, openMib: 64 } };

/** Offered loads that have a name among the figures. */
export const TEN_THOUSAND = { perSecond: 10_000, bytes: 128 };
export const HUNDRED_MB = { perSecond: 100e6 / 4096, bytes: 4096 };

export class Device {
  #program;
  #seconds;
  #rest_s;
  #rested_s = 0;

  /** By backend: how the log commits on it, as the engine would find out. */
  commits = {};

  /** Builds the program if need be, and starts it. Its files go to `directory`. */
  static start(directory, { seconds, quick }) {
    const target = targetDir();
    build('elgate-bench-log', ['-p', 'elgate-bench-log', ...optionalBackend()], { cwd: root, target });
    const { segmentMib, openMib } = quick ? SIZES.quick : SIZES.full;
    const program = join(target, 'release/elgate-bench-log');
    const sizes = [String(segmentMib), String(openMib)];
    return new Device(new Answerer(program, [directory, ...sizes]), seconds, quick ? 0 : REST_TOTAL_S);
  }

  constructor(program, seconds, rest_s) {
    this.#program = program;
    this.#rest_s = rest_s;
    process.once('exit', () => this.#removeRing());
    this.#seconds = seconds;
  }

  /** `{auto: NAME, NAME: null or why it does not run here}` */
  backends() {
    return this.#program.request('backends');
  }

  /**
   * A load in an open loop.
   *
   * @param {'floor' | 'log auto'} who
   * @returns {Promise<{mean_us: number, p50_us: number, p95_us: number}>}
   */
  paced(who, { perSecond, bytes }, seconds = this.#seconds) {
    const [name, backend] = who.split(' ');
    return this.#program.request([`${name}-paced`, backend, perSecond, bytes, seconds].filter(Boolean).join(' '));
  }

  /** Waits until the device is as fast as it was at best. */
  async rest() {
    const time_s = Math.min(REST_S, this.#rest_s - this.#rested_s);
    if (time_s <= 0) return;
    const { waited_s } = await this.#program.request(`rest ${time_s}`);
    this.#rested_s += waited_s;
  }

  /** Seconds that were spent on that. */
  get rested_s() {
    return this.#rested_s;
  }

  /** The bare device, as somebody who takes turns. */
  floor() {
    return {
      name: 'floor',
      single: () => this.#program.request(`floor-single ${this.#seconds}`),
      paced: () => this.#loads('floor'),
      volume: () => this.#program.request(`floor-volume ${this.#seconds}`),
      close: async () => {},
    };
  }

  /** Elgate, on the backend that an engine would choose. Its end ends the program. */
  elgate() {
    const request = (text) => this.#program.request(text);
    return {
      name: 'elgate',
      prepare: async () => {
        await this.#prepareLog('auto');
        await request('engine-prepare');
      },
      single: () => request(`log-single auto ${this.#seconds}`),
      paced: async () => ({
        ...(await this.#loads('log auto')),
        ...(await request(`engine-paced ${this.#seconds}`)),
      }),
      volume: async () => ({
        ...(await request(`log-volume auto ${this.#seconds}`)),
        ...(await request(`log-growing auto ${this.#seconds}`)),
        ...(await request(`engine-volume ${this.#seconds}`)),
      }),
      reopening: async () => {
        await request('crash');
        await this.rest();
        return request('open');
      },
      close: () => this.close(),
      kill: () => this.kill(),
    };
  }

  /** The log on another backend. */
  backend(name) {
    return {
      name,
      prepare: () => this.#prepareLog(name),
      single: () => this.#program.request(`log-single ${name} ${this.#seconds}`),
      volume: () => this.#program.request(`log-volume ${name} ${this.#seconds}`),
      close: async () => {},
    };
  }

  async #prepareLog(backend) {
    const { how } = await this.#program.request(`log-prepare ${backend}`);
    this.commits[backend] = how;
  }

  async #loads(who) {
    const tenThousand = await this.paced(who, TEN_THOUSAND);
    const hundredMb = await this.paced(who, HUNDRED_MB);
    return {
      latency_10k_avg_us: tenThousand.mean_us,
      latency_10k_p95_us: tenThousand.p95_us,
      stream_100mb_s_p50_us: hundredMb.p50_us,
      stream_100mb_s_p95_us: hundredMb.p95_us,
    };
  }

  /** Lets it finish. */
  close() {
    return this.#program.close();
  }

  kill() {
    this.#program.kill();
  }

  /** What a killed engine leaves in shared memory. */
  #removeRing() {
    const own = `elgate-bench-${this.#program.pid}`;
    for (const name of readdirSync('/dev/shm').filter((name) => name === own || name.startsWith(`${own}.`)))
      rmSync(join('/dev/shm', name), { force: true });
  }
}

/** The feature that adds the backend `tokio-uring`, where elgate-io has it. */
function optionalBackend() {
  const manifest = readFileSync(join(root, 'crates/elgate-io/Cargo.toml'), 'utf8');
  return /^tokio-uring\s*=\s*\[/m.test(manifest) ? ['--features', 'elgate-io/tokio-uring'] : [];
}
