// Latency against offered load: 128-byte records in an open loop, at rates from idle to more than
// most will ever see. For the plot only.

import { median } from '../lib/samples.mjs';

const RATES = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000];
const ROUNDS = 3;
const RECORD_BYTES = 128;

/** @returns {Promise<{rate: number, who: 'floor' | 'elgate', mean_us: number, p95_us: number}[]>} */
export async function offeredLoads(device, { seconds, progress }) {
  const loads = [];
  for (const perSecond of RATES) {
    progress(`offered load, ${perSecond} a second`);
    const results = { floor: [], elgate: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      const contestants = [
        ['floor', 'floor'],
        ['elgate', 'log auto'],
      ];
      for (const [who, request] of round % 2 === 0 ? contestants : contestants.toReversed()) {
        await device.rest();
        results[who].push(await device.paced(request, { perSecond, bytes: RECORD_BYTES }, seconds / 4));
      }
    }
    for (const [who, rounds] of Object.entries(results)) {
      const figure = (name) => median(rounds.map((round) => round[name]));
      loads.push({ rate: perSecond, who, mean_us: figure('mean_us'), p95_us: figure('p95_us') });
    }
  }
  return loads;
}
