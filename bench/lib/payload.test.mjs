import assert from 'node:assert/strict';
import test from 'node:test';
import { Numbered } from './payload.mjs';

const made = (count) => {
  const numbered = new Numbered();
  return { numbered, records: Array.from({ length: count }, () => numbered.next()) };
};

test('what was stored as it was made passes', async () => {
  const { numbered, records } = made(3);
  await numbered.verify('peer', records);
});

test('a missing, a swapped, a changed and an invented record are noticed', async () => {
  const wrong = {
    'missing at the end': (records) => records.slice(0, 2),
    'missing in the middle': (records) => [records[0], records[2]],
    swapped: (records) => [records[1], records[0], records[2]],
    changed: (records) => {
      records[1][100] ^= 1;
      return records;
    },
    invented: (records) => [...records, records[2]],
    short: (records) => [records[0], records[1].subarray(0, 127), records[2]],
  };
  for (const [what, spoil] of Object.entries(wrong)) {
    const { numbered, records } = made(3);
    await assert.rejects(numbered.verify('peer', spoil(records)), /^Error: peer: /, what);
  }
});
