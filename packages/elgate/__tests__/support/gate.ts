// A gate on a fake machine, for one test.

import type { ExecutionContext } from 'ava';
import { Elgate } from '../../src/library/elgate.js';
import type { OpenOptions } from '../../src/library/types.js';
import { provideBinding } from '../../src/native/load.js';
import { FakeMachine } from './fake-binding.js';
import { scratch } from './scratch.js';

export interface FakeGate {
  machine: FakeMachine;
  gate: Elgate;
}

/** An embedded gate with a route `a`. One machine per process at a time: use in `test.serial`. */
export async function openFake(t: ExecutionContext, options: OpenOptions = {}): Promise<FakeGate> {
  const machine = new FakeMachine();
  provideBinding(machine.binding);
  const gate = await Elgate.open({
    dataDir: scratch(t),
    routes: { a: { sink: 'none' }, b: { sink: 'none' } },
    ...options,
  });
  t.teardown(async () => {
    await gate.close({ drainMs: 10 }).catch(() => {});
    provideBinding(undefined);
  });
  return { machine, gate };
}

/** A gate connected to a fake daemon. */
export async function connectFake(t: ExecutionContext): Promise<FakeGate> {
  const machine = new FakeMachine();
  machine.serve('/fake/ring');
  provideBinding(machine.binding);
  const gate = await Elgate.connect({ ring: '/fake/ring' });
  t.teardown(async () => {
    await gate.close({ drainMs: 10 }).catch(() => {});
    provideBinding(undefined);
  });
  return { machine, gate };
}
