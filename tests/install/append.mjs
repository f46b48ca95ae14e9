// What somebody does who has just installed the packages: one durable append, read back.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Elgate } from 'elgate';

const directory = mkdtempSync(join(tmpdir(), 'elgate-install-'));
const gate = await Elgate.open({ dataDir: directory, routes: { first: { sink: 'none' } } });
try {
  const receipt = await gate.route('first').append('hello');
  assert.deepEqual(receipt, { route: 'first', lsn: 1, level: 'durable' });
  console.log(`durable: ${receipt.route} ${receipt.lsn}`);
} finally {
  await gate.close();
  rmSync(directory, { recursive: true, force: true });
}
