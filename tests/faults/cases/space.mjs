// No room: a full file system, and a limit on the size of a file. The route parks and says why, nobody is told that
// something is durable that is not, and once there is room it goes on by itself.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { withFlow } from '../lib/flow.mjs';

const DISK_BYTES = 96 << 20;
const FILE_BYTES_MAX = 1 << 20;
const ROUNDS = 2;

/** Fills a file system to its last block. */
function fill(mountpoint) {
  const file = path.join(mountpoint, 'filler');
  const descriptor = fs.openSync(file, 'w');
  for (let size = 1 << 20; size >= 4096; ) {
    try {
      if (fs.writeSync(descriptor, Buffer.alloc(size)) < size) size >>= 1;
    } catch (error) {
      if (error.code !== 'ENOSPC') throw error;
      size >>= 1;
    }
  }
  fs.closeSync(descriptor);
  return file;
}

export const full = (context, { backend }) =>
  withFlow(context, { backend, disk: { bytes: DISK_BYTES }, bytes: [2_000, 16_000], retain: 1 }, async (flow) => {
    for (let round = 1; round <= ROUNDS; round += 1) {
      const filler = fill(flow.disk.mountpoint);
      flow.struck();
      await flow.parked(`full disk ${round}`, /space/i);
      fs.rmSync(filler);
      await flow.unparked(`full disk ${round}`);
    }
    await flow.conclude();
    flow.report.figures({ struck: { enospc: ROUNDS } });
  });

export const fileSize = (context, { backend }) =>
  withFlow(context, { backend, bytes: [2_000, 16_000] }, async (flow) => {
    const limit = (bytes) => execFileSync('prlimit', ['--pid', String(flow.daemon.pid), `--fsize=${bytes}:`]);
    for (let round = 1; round <= ROUNDS; round += 1) {
      limit(FILE_BYTES_MAX);
      flow.struck();
      await flow.parked(`file size limit ${round}`, /too large|os error 27/i);
      limit('unlimited');
      await flow.unparked(`file size limit ${round}`);
    }
    await flow.conclude();
    flow.report.figures({ struck: { efbig: ROUNDS } });
  });
