// The disk holds a write of the log back, the daemon is killed, and the next one starts: it may not open the log before
// that write has happened. A write that came later would land on what the next one has acknowledged.

import { Daemon } from '../../crash/lib/daemon.mjs';
import { readHead } from '../../crash/lib/head-file.mjs';
import { freePort } from '../../crash/lib/sandbox.mjs';
import { FILE_ROUTE } from '../../crash/lib/two-routes.mjs';
import { until } from '../../crash/lib/wait.mjs';
import { withFlow } from '../lib/flow.mjs';
import { activeSegment } from '../lib/segments.mjs';

const DISK_BYTES = 256 << 20;
const ROUNDS = 2;
/** If it goes on without waiting: enough to cover the place of the held write. */
const COVERING = 60;
const WAITS = /waiting for the last writes of process (\d+)/g;

/** Who was waited for so far, according to the daemon's log. */
const waitedFor = (flow) =>
  [...flow.sandbox.tailOf(flow.daemon.log, 1e6).matchAll(WAITS)].map(([, pid]) => Number(pid));

/** Has the disk hold back a write into the segment that is written to. */
async function holdAWrite(flow) {
  const { held } = await flow.disk.stats();
  const file = await until('a segment to be written to', () => activeSegment(flow.gate), { timeoutMs: 20_000 });
  const { from, to } = await flow.disk.extentOf(file);
  await flow.disk.tell(`hold ${from} ${to}`);
  const isHeld = async () => (await flow.disk.stats()).held > held;
  await until('a write to be held back', isHeld, { timeoutMs: 20_000, abort: () => flow.deathReason() });
}

/** Another daemon in its place, and at an address of its own: the one that was killed may be unable to go. */
async function succeed(flow) {
  const { sandbox, config, env, prefix, log } = flow.daemon;
  const admin = `127.0.0.1:${await freePort()}`;
  flow.daemon = new Daemon(sandbox, { config, admin, env, prefix, args: ['--admin', admin], log });
  flow.gate.daemon = flow.daemon;
  flow.daemon.start();
}

async function killWithAWriteUnderWay(flow, round) {
  const { report, gate } = flow;
  await holdAWrite(flow);
  const { pid } = flow.daemon;
  const { epoch } = readHead(gate.dataDir, FILE_ROUTE);
  const buried = flow.daemon.kill();
  flow.struck();
  // Of the next one nothing is held back.
  await flow.disk.tell('pass');
  await succeed(flow);
  const isReady = async () => (await flow.daemon.get('/readyz').catch(() => undefined))?.status === 200;
  const waits = () => waitedFor(flow).includes(pid);
  await until('the next daemon to wait for the held write, or not to', async () => waits() || (await isReady()), {
    timeoutMs: 30_000,
    everyMs: 10,
    abort: () => flow.daemon.deathReason(),
  });
  const untouched = readHead(gate.dataDir, FILE_ROUTE).epoch === epoch;
  report.check(
    `round ${round}: the next daemon waits while a write of its predecessor is under way`,
    waits() && untouched,
    `${waits() ? 'it waited' : 'it did not wait'}, and the log was ${untouched ? 'not ' : ''}opened`,
  );
  // With the hole, what is acknowledged now is what the held write destroys.
  if (!waits()) await flow.flowing('a start that did not wait', { more: COVERING });
  await flow.disk.tell('go');
  await flow.daemon.ready();
  await buried;
  await flow.flowing(`the held write of round ${round}`);
}

export const run = (context, { backend }) =>
  withFlow(context, { backend, disk: { bytes: DISK_BYTES }, bytes: [20, 8_000] }, async (flow) => {
    for (let round = 1; round <= ROUNDS; round += 1) {
      await flow.flowing(`what came before round ${round}`, { more: 100 });
      await killWithAWriteUnderWay(flow, round);
    }
    const { held } = await flow.disk.stats();
    await flow.conclude();
    const { code, stdout } = await context.sandbox.cli(['fsck', '--config', flow.gate.config]);
    context.report.check('every batch of the logs is whole', code === 0, `fsck exits with ${code}:\n${stdout}`);
    context.report.figures({ struck: { held_writes: held } });
    context.report.note(`${held} writes held back over ${ROUNDS} deaths`);
  });
