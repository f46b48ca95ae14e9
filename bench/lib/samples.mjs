// Latencies of a closed loop, every sample kept, and medians over rounds.

/** The value that `percent` of the samples do not exceed. */
export function percentile(samples, percent) {
  if (samples.length === 0) throw new Error('no samples');
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.floor(((sorted.length - 1) * percent) / 100)];
}

/** At which percentages a distribution is handed out. */
const QUANTILES = [0, 1, 2, 5, ...Array.from({ length: 18 }, (_, index) => 10 + 5 * index), 98, 99, 99.9];

/** The distribution for a plot: `[[percent, microseconds], ...]`. */
export function distribution(samples) {
  const sorted = Float64Array.from(samples).sort();
  return QUANTILES.map((percent) => [percent, sorted[Math.floor(((sorted.length - 1) * percent) / 100)]]);
}

export const median = (values) => percentile(values, 50);

/**
 * Runs `operation` over and over for `seconds`, one at a time.
 *
 * @returns {Promise<{samples_us: number[], per_s: number}>}
 */
export async function oneAtATime(seconds, operation) {
  const samples_us = [];
  const begin = performance.now();
  const end = begin + seconds * 1000;
  let before = begin;
  do {
    await operation();
    const after = performance.now();
    samples_us.push((after - before) * 1000);
    before = after;
  } while (before < end);
  return { samples_us, per_s: (samples_us.length / (before - begin)) * 1000 };
}

/** The same for an operation that blocks, without a turn of the event loop between two runs. */
export function oneAtATimeBlocking(seconds, operation) {
  const samples_us = [];
  const begin = performance.now();
  const end = begin + seconds * 1000;
  let before = begin;
  do {
    operation();
    const after = performance.now();
    samples_us.push((after - before) * 1000);
    before = after;
  } while (before < end);
  return { samples_us, per_s: (samples_us.length / (before - begin)) * 1000 };
}

/**
 * Keeps `outstanding` operations under way for `seconds`, then waits for the last.
 *
 * @returns {Promise<number>} operations a second
 */
export async function manyAtOnce(seconds, outstanding, operation) {
  let done = 0;
  const begin = performance.now();
  const end = begin + seconds * 1000;
  const lane = async () => {
    do {
      await operation();
      done += 1;
    } while (performance.now() < end);
  };
  await Promise.all(Array.from({ length: outstanding }, lane));
  return (done / (performance.now() - begin)) * 1000;
}
