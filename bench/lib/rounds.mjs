// Everybody takes turns: each round runs every contestant once, so that a noisy minute hits all of
// them. The result is the median over rounds; ratios are taken within a round first.

import { median } from './samples.mjs';

/**
 * What a contestant measured in one round: figures, and under `latency_us` a distribution.
 *
 * @typedef {Record<string, number | [number, number][]>} Figures
 *
 * @typedef {object} Contestant
 * @property {string} name
 * @property {(() => Promise<unknown>)=} prepare before anybody is measured
 * @property {() => Promise<Figures>} single one operation at a time
 * @property {(() => Promise<Figures>)=} paced a load in an open loop
 * @property {(() => Promise<Figures>)=} volume as much as goes through
 * @property {(() => Promise<Figures>)=} reopening after a crash
 * @property {() => Promise<void>} close checks what was stored
 * @property {(() => void)=} kill
 */

const DISCIPLINES = ['single', 'paced', 'volume', 'reopening'];

/**
 * First everybody's `single`, round by round, then everybody's `paced`, and so on: a device that is
 * still busy with somebody's volume says nothing about anybody's latency.
 *
 * @param {number} rounds
 * @param {Contestant[]} contestants
 * @param {(text: string) => void} progress
 * @param {() => Promise<void>} rest waits until the device does not feel the last turn any more
 * @returns {Promise<Record<string, Figures[]>>} per contestant, one entry per round
 */
export async function takeTurns(rounds, contestants, progress, rest) {
  for (const contestant of contestants.filter(({ prepare }) => prepare)) {
    progress(`preparing ${contestant.name}`);
    await contestant.prepare();
  }
  const results = Object.fromEntries(contestants.map(({ name }) => [name, Array.from({ length: rounds }, () => ({}))]));
  for (const discipline of DISCIPLINES) {
    for (let round = 0; round < rounds; round += 1) {
      // Every other round runs backwards, so that nobody always follows the same neighbour.
      const order = round % 2 === 0 ? contestants : contestants.toReversed();
      for (const contestant of order.filter((candidate) => candidate[discipline])) {
        await rest();
        progress(`${discipline}, round ${round + 1} of ${rounds}: ${contestant.name}`);
        Object.assign(results[contestant.name][round], await contestant[discipline]());
      }
    }
  }
  return results;
}

/** The median of each figure over the rounds. */
export function medians(rounds) {
  const figures = Object.keys(rounds[0]).filter((name) => typeof rounds[0][name] === 'number');
  return Object.fromEntries(figures.map((name) => [name, median(rounds.map((round) => round[name]))]));
}

/** The distribution whose every point is the median of the rounds' points. */
export function medianDistribution(rounds) {
  return rounds[0].latency_us.map(([percent], point) => [
    percent,
    median(rounds.map((round) => round.latency_us[point][1])),
  ]);
}

/** The median over rounds of `figure` of the one, divided by `otherFigure` of the other. */
export function ratio(rounds, figure, others, otherFigure) {
  return median(rounds.map((round, index) => round[figure] / others[index][otherFigure]));
}
