// Killed at a named site on a disk that then loses power as well: in recovery from another cut, and while rolling.

import fs from 'node:fs';
import { FAILPOINTS_ADDON } from '../../crash/lib/sandbox.mjs';
import { tearTail } from '../../crash/lib/torn-tail.mjs';
import { ROUTES, withFlow } from '../lib/flow.mjs';

const DISK_BYTES = 512 << 20;
const DEATH_LIMIT_MS = 6_000;
const BYTES = [4_000, 20_000];

async function killAt(flow, { site, pass, cutToo }) {
  const { random } = flow;
  await flow.flowing(`what came before ${site}:${pass}`);
  await flow.cutPower('sectors', { moment: `flush ${random.int(0, 8)}` });
  // A cut seldom leaves a torn batch by itself.
  if (site === 'log.recovery.cut') for (const route of ROUTES) tearTail(flow.gate.dataDir, route, random);
  flow.daemon.start({ ELGATE_NATIVE: FAILPOINTS_ADDON, ELGATE_KILL_SITE: `${site}:${pass}` });
  const outcome = await flow.daemon.died(DEATH_LIMIT_MS);
  const isDead = outcome?.signal === 'SIGKILL';
  if (outcome && !isDead)
    throw new Error(`${site}: the daemon ended by itself:\n${flow.sandbox.tailOf(flow.daemon.log)}`);
  if (cutToo) await flow.cutPower(random.pick(['none', 'subset', 'sectors']));
  else if (!isDead) await flow.daemon.kill();
  if (isDead && !cutToo) flow.struck();
  flow.daemon.start();
  return isDead;
}

const at =
  (sites, rounds) =>
  (context, { backend }) =>
    withFlow(context, { backend, disk: { bytes: DISK_BYTES }, bytes: BYTES }, async (flow) => {
      const { report } = context;
      if (!fs.existsSync(FAILPOINTS_ADDON)) {
        report.fail('the addon with kill sites is built', 'build it with: node scripts/build-native.mjs --failpoints');
        return;
      }
      const deaths = Object.fromEntries(sites.map((site) => [site, 0]));
      for (let round = 1; round <= rounds; round += 1)
        for (const site of sites)
          deaths[site] += await killAt(flow, { site, pass: 1 + (round % 2), cutToo: round % 2 === 0 });
      await flow.flowing('the last death');
      for (const [site, times] of Object.entries(deaths))
        report.check(`${site}: died there`, times > 0, 'never reached: NOT MEASURED');
      await flow.conclude();
      const { cuts, dropped, torn } = await flow.disk.stats();
      report.figures({ power_cuts: { cuts, dropped, torn }, visited: deaths });
      report.note(`${cuts} power cuts; deaths by site: ${JSON.stringify(deaths)}`);
    });

export const inRecovery = at(['log.recovery.scanned', 'log.recovery.cut', 'ring.acked.before_release'], 4);
export const inRoll = at(['log.roll', 'log.segment.prepared', 'cursor.save.before', 'cursor.save.after'], 3);
