// "Did you mean": the nearest of a few known words.

/** The nearest candidate, if two fifths of the word or fewer are edits. */
export function closest<T extends string>(word: string, candidates: readonly T[]): T | undefined {
  let best: T | undefined;
  let bestDistance = Math.max(1, Math.round(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase().replaceAll('-', '_'), candidate.replaceAll('-', '_'));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** The candidate that `word` is all but certainly a slip of: at most a quarter of it are edits. */
export function slipOf<T extends string>(word: string, candidates: readonly T[]): T | undefined {
  return candidates.find((candidate) => {
    const distance = editDistance(word, candidate);
    return distance > 0 && distance <= Math.floor(candidate.length / 4);
  });
}

/** Levenshtein's distance, where exchanging two neighbours counts once. */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? 0;
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let distance = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + cost);
      const exchanged = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (exchanged) distance = Math.min(distance, at(i - 2, j - 2) + 1);
      row.push(distance);
    }
  }
  return at(a.length, b.length);
}
