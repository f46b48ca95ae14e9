// What a program does without any help: append to a file, then fdatasync, in Node.

import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Numbered, RECORD_BYTES } from '../lib/payload.mjs';
import { distribution, oneAtATime, percentile } from '../lib/samples.mjs';

export async function file(directory, seconds) {
  const path = join(directory, 'peer.log');
  const handle = await open(path, 'a');
  const numbered = new Numbered();
  async function* stored() {
    const bytes = await readFile(path);
    for (let offset = 0; offset < bytes.length; offset += RECORD_BYTES)
      yield bytes.subarray(offset, offset + RECORD_BYTES);
  }
  return {
    name: 'fs',
    async single() {
      const { samples_us, per_s } = await oneAtATime(seconds, async () => {
        await handle.write(numbered.next());
        await handle.datasync();
      });
      return {
        append_p50_us: percentile(samples_us, 50),
        append_p95_us: percentile(samples_us, 95),
        append_per_s: per_s,
        latency_us: distribution(samples_us),
      };
    },
    async close() {
      await handle.close();
      await numbered.verify('fs', stored());
    },
  };
}
