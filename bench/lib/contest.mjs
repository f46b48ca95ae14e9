// A case from start to end: contestants are opened one after the other, take turns, and are closed
// (which checks what they stored) whatever happens.

import { takeTurns } from './rounds.mjs';

/**
 * @param {{rounds: number, progress: (text: string) => void, rest: () => Promise<void>, afterwards?: () => Promise<void>}} run
 *   `rest` comes before every turn; `afterwards` may measure more before the contestants are closed
 * @param {(() => Promise<import('./rounds.mjs').Contestant>)[]} openers
 * @returns {Promise<Record<string, import('./rounds.mjs').Figures[]>>} per contestant, one entry per round
 */
export async function contest({ rounds, progress, rest, afterwards }, openers) {
  const contestants = [];
  let verified = 0;
  try {
    for (const open of openers) contestants.push(await open());
    const results = await takeTurns(rounds, contestants, progress, rest);
    await afterwards?.();
    progress('checking what everybody stored');
    for (const contestant of contestants) {
      await contestant.close();
      verified += 1;
    }
    return results;
  } finally {
    for (const contestant of contestants.slice(verified)) contestant.kill?.();
  }
}
