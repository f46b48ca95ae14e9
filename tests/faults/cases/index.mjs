// Every case by name: what the list shows of it, and `run({ sandbox, random, report, cuts })`.

import * as powerCut from './power-cut.mjs';

/** The poll backend's share of the power cuts. */
const POLL_SHARE = 0.25;
const ofPoll = (cuts) => Math.max(1, Math.round(cuts * POLL_SHARE));

export const CASES = {
  'power-cut': {
    title: 'the power fails under load, again and again',
    run: (context) => powerCut.run(context, { backend: 'uring', cuts: context.cuts - ofPoll(context.cuts) }),
  },
  'power-cut-poll': {
    title: 'the same on the poll backend',
    run: (context) => powerCut.run(context, { backend: 'poll', cuts: ofPoll(context.cuts) }),
  },
};
