// Not input at all: a daemon with nothing to do must cost next to nothing.

import fs from 'node:fs';
import { sleep } from '../../crash/lib/wait.mjs';
import { expect, expectDelivered, putLines, runningGate } from '../lib/case.mjs';

const WINDOW_MS = 5_000;
const SHARE_MAX = 0.005;
const MEASUREMENTS = 3;
const TICKS_PER_SECOND = 100;

/** Processor time of all threads of a process, in seconds. */
function cpuSeconds(pid) {
  const fields = fs
    .readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export const cases = [
  {
    title: 'idle: an idle daemon uses less than 0.5 % of one core',
    async run(sandbox, { note }) {
      const gate = await runningGate(sandbox, {
        more: { hooks: { sink: 'http', url: 'http://127.0.0.1:9/' }, kept: { sink: 'none' } },
      });
      await putLines(sandbox, gate, 100);
      await expectDelivered(gate);
      const shares = [];
      for (let attempt = 0; attempt < MEASUREMENTS; attempt += 1) {
        await sleep(1_000);
        const before = cpuSeconds(gate.daemon.pid);
        await sleep(WINDOW_MS);
        shares.push((cpuSeconds(gate.daemon.pid) - before) / (WINDOW_MS / 1000));
        note(`idle: ${(shares.at(-1) * 100).toFixed(2)} % of one core over ${WINDOW_MS / 1000} s`);
        if (shares.at(-1) < SHARE_MAX) return;
      }
      expect(false, `used ${shares.map((share) => `${(share * 100).toFixed(2)} %`).join(', ')} of one core`);
    },
  },
];
