// Every case by name: what the list shows of it, and `run({ sandbox, random, report, cuts, flips })`.

import * as badBlock from './bad-block.mjs';
import * as ioError from './io-error.mjs';
import * as killed from './killed.mjs';
import * as lateWrite from './late-write.mjs';
import * as lying from './lying.mjs';
import * as powerCut from './power-cut.mjs';
import * as readOnly from './read-only.mjs';
import * as rot from './rot.mjs';
import * as slow from './slow.mjs';
import * as space from './space.mjs';
import * as starved from './starved.mjs';
import * as stopped from './stopped.mjs';

/** The poll backend's share of the power cuts. */
const POLL_SHARE = 0.25;
const ofPoll = (cuts) => Math.max(1, Math.round(cuts * POLL_SHARE));

/** A case on the backend that most machines choose. */
const onUring = (name, title, run) => ({
  [name]: { title, run: (context) => run(context, { backend: 'uring' }) },
});

/** A case on each backend: those in which the backend deals with the fault. */
const onBoth = (name, title, run) => ({
  ...onUring(name, title, run),
  [`${name}-poll`]: { title: `${title} (poll)`, run: (context) => run(context, { backend: 'poll' }) },
});

export const CASES = {
  'power-cut': {
    title: 'the power fails under load, again and again',
    run: (context) => powerCut.run(context, { backend: 'uring', cuts: context.cuts - ofPoll(context.cuts) }),
  },
  'power-cut-poll': {
    title: 'the same on the poll backend',
    run: (context) => powerCut.run(context, { backend: 'poll', cuts: ofPoll(context.cuts) }),
  },
  ...onBoth('write-eio', 'writes fail, one by one and all of them', ioError.writes),
  ...onBoth('flush-eio', 'flushes fail, one by one and all of them', ioError.flushes),
  ...onBoth('read-eio', 'reads fail, for a sink and in recovery', ioError.reads),
  ...onBoth('bad-block', 'one block of a log cannot be read any more', badBlock.run),
  ...onBoth('enospc', 'the file system is full, until it is not', space.full),
  ...onUring('efbig', 'files may not grow, until they may', space.fileSize),
  ...onBoth('read-only', 'the file system turns read-only', readOnly.run),
  ...onUring('emfile', 'no more descriptors, until there are', starved.descriptors),
  ...onUring('memlock', '64 KiB of lockable memory, and killed', starved.lockedMemory),
  ...onUring('sigstop-daemon', 'the daemon is stopped and goes on', stopped.daemon),
  ...onUring('sigstop-producer', 'a program is stopped in the ring and goes on', stopped.producer),
  ...onUring('lying-flush', 'flushes are lies, and the power fails', lying.run),
  rot: { title: 'bits flip in segments at rest', run: rot.run },
  ...onBoth('late-write', 'killed while the disk holds a write back, and started again', lateWrite.run),
  ...onBoth('slow-disk', 'every request takes its time', slow.run),
  ...onBoth('kill-in-recovery', 'killed while recovering from a power cut, and cut again', killed.inRecovery),
  ...onBoth('kill-in-roll', 'killed while rolling and saving cursors, and cut', killed.inRoll),
};
