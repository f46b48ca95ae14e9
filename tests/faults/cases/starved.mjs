// Processes that may not have what they ask for: no more descriptors, hardly any lockable memory. A typed error or a
// fallback, nothing lost, and on it goes when there is more.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import { withFlow } from '../lib/flow.mjs';
import { Lacking } from '../lib/lacking.mjs';

const ROUNDS = 3;
const MEMLOCK_BYTES = 64 * 1024;
const KILLS = 3;
/** Numbers below are taken for good. */
const STANDARD_STREAMS = 3;

/** Not one descriptor more, nor any that is closed again; segments are rolled and connections made all the while. */
export const descriptors = (context, { backend }) =>
  withFlow(context, { backend, bytes: [2_000, 16_000] }, async (flow) => {
    // The connection that the status is asked over, from before there were no more.
    flow.daemon.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (let round = 1; round <= ROUNDS; round += 1) {
      await flow.daemon.status();
      const limit = (count) => execFileSync('prlimit', ['--pid', String(flow.daemon.pid), `--nofile=${count}:`]);
      const before = softLimit(flow.daemon.pid, 'Max open files');
      limit(STANDARD_STREAMS);
      flow.struck();
      await flow.parked(`no descriptors ${round}`, /os error 24\b/);
      const metrics = await flow.daemon.get('/metrics');
      context.report.check(`metrics without a descriptor ${round}`, metrics.status === 200, metrics.text);
      limit(before);
      await flow.unparked(`no descriptors ${round}`);
    }
    flow.daemon.agent.destroy();
    flow.daemon.agent = undefined;
    await flow.conclude();
    context.report.figures({ struck: { emfile: ROUNDS } });
  });

/** As whoever may lock 64 KiB and no more: what an unprivileged user is, as far as locked memory goes. */
export async function lockedMemory(context, { backend }) {
  const prefix = [
    ...['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock'],
    ...['prlimit', `--memlock=${MEMLOCK_BYTES}:${MEMLOCK_BYTES}`],
  ];
  if (process.getuid() !== 0) throw new Lacking('needs root, to give capabilities away');
  await withFlow(context, { backend, prefix }, async (flow) => {
    const { report, random } = context;
    const capabilities = BigInt(`0x${/CapEff:\s*(\w+)/.exec(fs.readFileSync(`/proc/${flow.daemon.pid}/status`))[1]}`);
    const isConfined =
      (capabilities >> 14n) % 2n === 0n && softLimit(flow.daemon.pid, 'Max locked memory') === MEMLOCK_BYTES;
    report.check('the daemon may lock 64 KiB and no more', isConfined, 'NOT MEASURED');
    for (let kill = 1; kill <= KILLS; kill += 1) {
      flow.struck();
      await flow.daemon.kill();
      flow.daemon.start();
      await flow.flowing(`kill ${kill}`, { more: random.int(20, 200) });
    }
    const [shard] = (await flow.daemon.status()).shards;
    report.check(`it runs on ${backend} all the same`, shard.backend === backend, JSON.stringify(shard.facts));
    await flow.conclude();
    report.figures({ struck: { memlock: 1, kills: KILLS } });
    report.note(JSON.stringify(shard.facts));
  });
}

function softLimit(pid, name) {
  const line = fs
    .readFileSync(`/proc/${pid}/limits`, 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(name));
  return Number(line.slice(name.length).trim().split(/\s+/)[0]);
}
