// Writes, flushes and reads that fail with EIO: nothing is acknowledged that was not written, what failed is written
// again elsewhere, and what cannot be read is tried until it can.

import { until } from '../../crash/lib/wait.mjs';
import { withFlow } from '../lib/flow.mjs';
import { activeSegment, segmentFiles } from '../lib/segments.mjs';

const DISK_BYTES = 256 << 20;
const WRITE_ERRORS = 8;
const FLUSH_ERRORS = 8;
const READ_ERRORS = 3;
const EIO = /os error 5\b/;
const STRIKE_MS = 20_000;

/** ext4 that goes on after an error, as a disk with other things on it would be mounted; the journal would end it all. */
const ROBUST = { bytes: DISK_BYTES, journal: false, options: 'errors=continue' };

/** One write of the log fails, in the middle of its segment, again and again; then all of the disk's for a while. */
export const writes = (context, { backend }) =>
  withFlow(context, { backend, disk: ROBUST }, async (flow) => {
    const { random, report } = context;
    for (let times = 1; times <= WRITE_ERRORS; times += 1) {
      flow.struck();
      await failActive(flow, times, `${random.int(0, 6)} ${random.int(1, 2)}`);
      await flow.flowing(`write error ${times}`);
      await flow.disk.tell('heal');
    }
    const row = await flow.state();
    report.check('the status tells of it', EIO.test(row.last_error?.message), JSON.stringify(row.last_error));
    await allFail(flow, 'write');
    await flow.conclude();
    await note(flow, 'write', WRITE_ERRORS + 1);
  });

/** Lets writes to the active segment fail until one has; should the log have left that one meanwhile, the next. */
async function failActive(flow, times, which) {
  const abort = () => flow.deathReason();
  const end = Date.now() + STRIKE_MS;
  for (;;) {
    const segment = await until('an active segment', () => activeSegment(flow.gate), { abort });
    const { from, to } = await flow.disk.extentOf(segment);
    await flow.disk.tell(`fail write ${which} ${from} ${to}`);
    try {
      return await flow.disk.untilFailed('write', times, { timeoutMs: STRIKE_MS / 10, abort });
    } catch (error) {
      if (Date.now() > end || flow.deathReason()) throw error;
      await flow.disk.tell('heal');
    }
  }
}

/** The same with flushes. The error belongs to the write that it followed. */
export const flushes = (context, { backend }) =>
  withFlow(context, { backend, disk: ROBUST }, async (flow) => {
    const { random } = context;
    for (let times = 1; times <= FLUSH_ERRORS; times += 1) {
      flow.struck();
      await flow.disk.tell(`fail flush ${random.int(0, 10)} ${random.int(1, 3)}`);
      await flow.disk.untilFailed('flush', times, { timeoutMs: STRIKE_MS, abort: () => flow.deathReason() });
      await flow.disk.tell('heal');
      await flow.flowing(`flush error ${times}`);
    }
    await allFail(flow, 'flush');
    await flow.conclude();
    await note(flow, 'flush', FLUSH_ERRORS + 1);
  });

/** Everything of a kind fails until the route says that it is parked; then it resumes by itself. */
async function allFail(flow, request) {
  flow.struck();
  await flow.disk.tell(`fail ${request} 0 0`);
  await flow.parked(`failure of every ${request}`, EIO);
  await flow.disk.tell('heal');
  await flow.unparked(`failure of every ${request}`);
}

/** Reading for a sink that has fallen behind, and reading in recovery. */
export const reads = (context, { backend }) =>
  withFlow(context, { backend, disk: ROBUST, bytes: [2_000, 16_000], retain: 16 }, async (flow) => {
    const { report } = context;
    for (let times = 1; times <= READ_ERRORS; times += 1) {
      // Far more behind than memory holds: it has to be read from the disk again.
      await flow.daemon.post('/routes/orders/pause');
      await flow.flowing(`read error ${times - 1}`, { more: 900 });
      await restart(flow);
      const before = (await flow.disk.stats()).failed.read;
      for (const file of segmentFiles(flow.gate)) {
        const { from, to } = await flow.disk.extentOf(file);
        await flow.disk.tell(`fail read 0 ${times % 2 === 0 ? 0 : 3} ${from} ${to}`);
      }
      flow.struck();
      flow.daemon.start();
      await flow.disk.untilFailed('read', before + 1, { timeoutMs: STRIKE_MS });
      await flow.disk.tell('heal');
      // It may have refused to start without its log; then somebody starts it again.
      const ended = await flow.endedOrFlowing();
      if (ended) {
        report.check(
          `start ${times} without its log says why`,
          /ERR_ELGATE_\w+/.test(flow.sandbox.tailOf(flow.daemon.log)),
          flow.sandbox.tailOf(flow.daemon.log),
        );
        flow.daemon.start();
      }
      await flow.flowing(`read error ${times}`);
    }
    await flow.conclude();
    await note(flow, 'read', READ_ERRORS);
  });

/** Down, and the kernel's copies of the files gone, so that the next start reads the disk. */
async function restart(flow) {
  await flow.daemon.kill();
  await flow.disk.umount();
  await flow.disk.mount();
}

async function note(flow, request, least) {
  const { failed } = await flow.disk.stats();
  flow.report.check(
    `${request} errors struck`,
    failed[request] >= least,
    `only ${failed[request]} of ${least}: NOT MEASURED`,
  );
  flow.report.figures({ struck: { [`${request}_eio`]: failed[request] } });
  flow.report.note(`${failed[request]} ${request} requests failed with EIO`);
}
