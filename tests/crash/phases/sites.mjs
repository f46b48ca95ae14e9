// Phase `sites`: every named kill site in the source is visited. The daemon, or a producer for the sites on its side,
// kills itself the n-th time it passes the site, for several n; it must really die there, and nothing may be lost.

import fs from 'node:fs';
import path from 'node:path';
import { startReceiver } from '../lib/far-end.mjs';
import { makeGate } from '../lib/gate.mjs';
import { moment } from '../lib/moments.mjs';
import { ProducerPool } from '../lib/producer-pool.mjs';
import { FAILPOINTS_ADDON, REPOSITORY } from '../lib/sandbox.mjs';
import { tearTail } from '../lib/torn-tail.mjs';
import { conclude, FILE_ROUTE, HTTP_ROUTE, routesFor } from '../lib/two-routes.mjs';
import { now, until } from '../lib/wait.mjs';

const SOURCE = path.join(REPOSITORY, 'crates/elgate-types/src/kill_site.rs');
/** A producer passes these; all others are the daemon's. */
const PRODUCER_SITES = new Set(['ring.claimed', 'ring.before_commit', 'ring.committed']);
/** Sites that are passed rarely, and how often within a reasonable time. Others are passed with every batch. */
const PASSES_MAX = new Map([
  ['log.roll', 2],
  ['log.segment.prepared', 2],
  ['log.recovery.scanned', 2],
  ['log.segment.recycled', 2],
  ['log.segment.retired', 2],
]);
const TEARING_SITES = new Set(['log.recovery.cut']);
/** As small as may be, and no more than one kept: so that segments are rolled, retired and used again. */
const SEGMENT_BYTES = 4 << 20;
const DEATH_LIMIT_MS = 8_000;
const RESUME_LIMIT_MS = 15_000;

/** Every name in `ALL` of kill_site.rs. */
export function sitesInSource() {
  const list = /pub const ALL: &\[&str\] = &\[([^\]]*)\]/.exec(fs.readFileSync(SOURCE, 'utf8'))?.[1] ?? '';
  return [...list.matchAll(/"([^"]+)"/g)].map(([, site]) => site);
}

const passesFor = (site, random) => {
  // The tail is torn where there is room for it, which is not always.
  if (TEARING_SITES.has(site)) return [1, 1, 1, 2];
  const most = PASSES_MAX.get(site);
  return most === undefined
    ? [1, random.int(2, 5), random.int(6, 25)]
    : Array.from({ length: most }, (_, index) => index + 1);
};

export async function run({ sandbox, random, report }) {
  if (!fs.existsSync(FAILPOINTS_ADDON)) {
    report.fail('the addon with kill sites is built', `build it with: node scripts/build-native.mjs --failpoints`);
    return;
  }
  const sites = sitesInSource();
  report.check('kill sites are listed in the source', sites.length > 0, `no list in ${SOURCE}`);

  const receiver = await startReceiver(sandbox, { seed: random.int(1, 1e6), faults: { drop_after: 0.002 } });
  const env = { ELGATE_NATIVE: FAILPOINTS_ADDON };
  const gate = await makeGate(sandbox, { routes: routesFor(receiver, { retain: { max_bytes: SEGMENT_BYTES } }), env });
  const { daemon } = gate;
  const routes = [FILE_ROUTE, HTTP_ROUTE];
  // Large records, so that segments of 4 MiB roll and are prepared within a second or two.
  const pool = new ProducerPool(sandbox, {
    routes,
    rate: 300,
    bytes: [100, 20_000],
    seed: random.int(1, 1e6),
    env: gate.env,
  });
  const faults = [];
  const resumed = [];
  const visited = Object.fromEntries(sites.map((site) => [site, 0]));
  const unreached = [];

  await daemon.start().ready();
  pool.start(1);
  pool.start(2);
  const progress = () => gate.durable(FILE_ROUTE) + gate.durable(HTTP_ROUTE);
  const abort = () => daemon.deathReason() ?? pool.deathReason();
  const flowing = async (label) => {
    const before = progress();
    const since = now();
    await until('records to become durable', () => progress() > before + 20, { timeoutMs: 30_000, abort });
    resumed.push({ label, ms: now() - since, limit: RESUME_LIMIT_MS });
  };
  await flowing('the first start');

  const plan = random.shuffle(sites.flatMap((site) => passesFor(site, random).map((pass) => ({ site, pass }))));
  let first = true;
  for (const { site, pass } of plan) {
    if (PRODUCER_SITES.has(site)) {
      if (!daemon.alive) daemon.start();
      if (await producerDiesAt(site, pass)) visited[site] += 1;
      else unreached.push(`${site}:${pass}`);
      continue;
    }
    if (daemon.alive) await daemon.kill();
    if (TEARING_SITES.has(site)) for (const route of routes) tearTail(gate.dataDir, route, random);
    daemon.start({ ELGATE_KILL_SITE: `${site}:${pass}` });
    const outcome = await daemon.died(DEATH_LIMIT_MS);
    if (outcome?.signal === 'SIGKILL') {
      visited[site] += 1;
      faults.push({ at: moment() });
    } else if (outcome === undefined) {
      unreached.push(`${site}:${pass}`);
    } else {
      report.fail(
        `${site}:${pass}`,
        `the daemon ended with ${outcome.signal ?? `exit ${outcome.code}`}:\n${sandbox.tailOf(daemon.log)}`,
      );
    }
    // Now and then let it run undisturbed in between: what it says then must be true as well.
    if (first || random.chance(0.2)) {
      if (daemon.alive) await daemon.kill();
      daemon.start();
      await flowing(`death at ${site}:${pass}`);
    }
    first = false;
  }

  if (daemon.alive) await daemon.kill();
  await daemon.start().ready();
  await flowing('the last death');
  const openFiles = daemon.openFiles();
  const problems = await pool.finish();
  report.check('every surviving producer got the outcome of all it sent', problems.length === 0, problems.join('; '));
  for (const [site, times] of Object.entries(visited)) {
    report.check(`${site}: died there`, times > 0, 'never reached: NOT MEASURED');
  }
  const injected = await conclude({ report, gate, receiver, pool, faults, resumed, openFiles });
  report.figures({ visited, unreached, kills: { sites: faults.length, in_flow: injected } });
  report.note(
    `deaths by site: ${Object.entries(visited)
      .map(([site, times]) => `${site} ${times}`)
      .join(', ')}`,
  );
  if (unreached.length > 0) report.note(`not reached within ${DEATH_LIMIT_MS} ms: ${unreached.join(', ')}`);

  async function producerDiesAt(site, pass) {
    const number = 3 + random.int(0, 5);
    pool.start(number, { ...env, ELGATE_KILL_SITE: `${site}:${pass}` });
    const ended = pool.expectDeath(number);
    const timer = setTimeout(() => pool.signal(number, 'SIGTERM'), DEATH_LIMIT_MS);
    const { signal } = await ended;
    clearTimeout(timer);
    if (signal !== 'SIGKILL') return false;
    faults.push({ at: moment(), producer: number });
    return true;
  }
}
