// Everybody takes turns: each round runs every contestant once, so that a noisy minute hits all of
// them. The result is the median over rounds; ratios are taken within a round first.

import { median } from './samples.mjs';

/** A contestant: `{ name, round(): Promise<Record<string, number>>, close(): Promise<void> }`. */

/**
 * @param {number} rounds
 * @param {{name: string, round: () => Promise<Record<string, number>>}[]} contestants
 * @param {(text: string) => void} progress
 * @returns {Promise<Record<string, Record<string, number>[]>>} per contestant, one entry per round
 */
export async function takeTurns(rounds, contestants, progress) {
  const results = Object.fromEntries(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    // Every other round runs backwards, so that nobody always follows the same neighbour.
    const order = round % 2 === 0 ? contestants : contestants.toReversed();
    for (const { name, round: run } of order) {
      progress(`round ${round + 1} of ${rounds}: ${name}`);
      results[name].push(await run());
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
