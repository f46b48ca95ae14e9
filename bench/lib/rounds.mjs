// Everybody takes turns: each round runs every contestant once, so that a noisy minute hits all of
// them. The result is the median over rounds; ratios are taken within a round first.

import { median } from './samples.mjs';

/**
 * @typedef {object} Contestant
 * @property {string} name
 * @property {() => Promise<Record<string, number>>} single one operation at a time
 * @property {(() => Promise<Record<string, number>>)=} volume as much as goes through
 * @property {() => Promise<void>} close checks what was stored
 * @property {(() => void)=} kill
 */

/**
 * First everybody's `single`, round by round, then everybody's `volume`: a device that is still
 * busy with somebody's volume says nothing about anybody's latency.
 *
 * @param {number} rounds
 * @param {Contestant[]} contestants
 * @param {(text: string) => void} progress
 * @returns {Promise<Record<string, Record<string, number>[]>>} per contestant, one entry per round
 */
export async function takeTurns(rounds, contestants, progress) {
  const results = Object.fromEntries(contestants.map(({ name }) => [name, Array.from({ length: rounds }, () => ({}))]));
  for (const discipline of ['single', 'volume']) {
    for (let round = 0; round < rounds; round += 1) {
      // Every other round runs backwards, so that nobody always follows the same neighbour.
      const order = round % 2 === 0 ? contestants : contestants.toReversed();
      for (const contestant of order.filter((candidate) => candidate[discipline])) {
        progress(`${discipline}, round ${round + 1} of ${rounds}: ${contestant.name}`);
        Object.assign(results[contestant.name][round], await contestant[discipline]());
      }
    }
  }
  return results;
}

/** The median of each figure over the rounds. */
export function medians(rounds) {
  return Object.fromEntries(Object.keys(rounds[0]).map((name) => [name, median(rounds.map((round) => round[name]))]));
}

/** The median over rounds of `figure` of the one, divided by `otherFigure` of the other. */
export function ratio(rounds, figure, others, otherFigure) {
  return median(rounds.map((round, index) => round[figure] / others[index][otherFigure]));
}
