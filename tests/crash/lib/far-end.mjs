// Starts and stops the HTTP far end (receiver.mjs) as a process of its own.

import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';

const RECEIVER = path.join(path.dirname(fileURLToPath(import.meta.url)), '../receiver.mjs');

/** Resolves when it listens: `{ port, url, journal, received(), stop() }`. */
export async function startReceiver(sandbox, { journal = sandbox.path('receiver.journal'), ...settings } = {}) {
  const child = sandbox.spawn(process.execPath, [RECEIVER, JSON.stringify({ journal, ...settings })], {
    log: 'receiver.log',
    stdio: ['ignore', 'pipe', 'log'],
  });
  const lines = readline.createInterface({ input: child.stdout });
  const first = await Promise.race([
    new Promise((resolve) => lines.once('line', resolve)),
    child.ended.then(() => Promise.reject(new Error(`the receiver did not start:\n${sandbox.tailOf('receiver.log')}`))),
  ]);
  const { port } = JSON.parse(first);
  return {
    port,
    url: `http://127.0.0.1:${port}/in`,
    journal,
    /** Bytes in the journal: grows with every receipt. */
    received: () => fs.statSync(journal).size,
    async stop() {
      child.kill('SIGKILL');
      await child.ended;
    },
  };
}
