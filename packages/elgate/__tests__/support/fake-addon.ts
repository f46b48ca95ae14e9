// A fake addon for the command line in a process of its own (ELGATE_NATIVE names this file): one daemon
// with one ring, always there unless FAKE_DAEMON=none. What it takes is written to FAKE_OUT; what of its routes' status is otherwise, is read
// from FAKE_STATUS at each look.

import { appendFileSync, readFileSync } from 'node:fs';
import { FakeMachine } from './fake-binding.js';
import { FakeRing } from './fake-ring.js';

const machine = new FakeMachine();

class WritingRing extends FakeRing {
  override consume(): void {
    super.consume();
    const out = process.env.FAKE_OUT;
    const taken = this.taken.splice(0);
    if (out === undefined) return;
    for (const { records } of taken) appendFileSync(out, records.map((record) => `${record}\n`).join(''), 'latin1');
  }
}

const ring = new WritingRing('any', process.env.FAKE_DATA ?? '/data');
ring.capacity = Number(process.env.FAKE_CAPACITY ?? 1000);
ring.refusals = (process.env.FAKE_REFUSALS ?? '').split(',').filter(Boolean).map(Number);
ring.held = process.env.FAKE_HELD !== undefined;
ring.level = Number(process.env.FAKE_LEVEL ?? 2);
machine.statusOf = (route) => {
  const file = process.env.FAKE_STATUS;
  return file === undefined ? {} : (JSON.parse(readFileSync(file, 'utf8'))[route] ?? {});
};
const { binding } = machine;

export const NativeEngine = binding.NativeEngine;
export const NativeClient = {
  connect: (path: string, waitMs: number) => {
    if (process.env.FAKE_DAEMON !== 'none') machine.rings.set(path, ring);
    return binding.NativeClient.connect(path, waitMs);
  },
};
export const NativeReader = binding.NativeReader;
export const { NativeFsck, describeLog, doctor, errorTable, buildInfo } = binding;
