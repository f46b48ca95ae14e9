// The file system finds an error and turns read-only, as it does after a journal that could not be written. The route
// parks and says why; repaired, mounted again and started again, everything acknowledged is there.

import fs from 'node:fs';
import { withFlow } from '../lib/flow.mjs';

const DISK_BYTES = 256 << 20;
/** EROFS, or EIO from the write that found out. */
const WORDS = /os error (30|5)\b/;

async function parkedThenRepaired(flow, label, strike, end) {
  flow.struck();
  await strike();
  await flow.parked(label, WORDS);
  await end();
  await flow.disk.tell('heal');
  await flow.disk.umount();
  await flow.disk.check();
  await flow.disk.mount();
  flow.daemon.start();
  await flow.flowing(label);
}

export const run = (context, { backend }) =>
  withFlow(context, { backend, disk: { bytes: DISK_BYTES }, args: ['--drain-timeout', '1'] }, async (flow) => {
    const trigger = `/sys/fs/ext4/${flow.disk.name}/trigger_fs_error`;
    await parkedThenRepaired(
      flow,
      'an error in the file system',
      () => fs.writeFileSync(trigger, 'elgate fault test'),
      async () => {
        const { signal } = await flow.daemon.stop();
        const story = `${signal}:\n${flow.sandbox.tailOf(flow.daemon.log)}`;
        flow.report.check('SIGTERM ends a parked daemon all the same', signal === null, story);
      },
    );
    // The journal's own flush fails: ext4 gives up writing for good, though the disk is well again.
    await parkedThenRepaired(
      flow,
      'a journal that could not be flushed',
      () => flow.disk.tell('fail flush 0 0'),
      () => flow.daemon.kill(),
    );
    await flow.conclude();
    const { failed } = await flow.disk.stats();
    flow.report.check('flush errors struck', failed.flush > 0, 'none: NOT MEASURED');
    flow.report.figures({ struck: { read_only: 2, flush_eio: failed.flush } });
  });
