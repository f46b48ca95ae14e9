// A ring that is not one of ours, and a ring that somebody wrote nonsense into.

import { once } from 'node:events';
import fs from 'node:fs';
import { makeGate } from '../../crash/lib/gate.mjs';
import { expect, expectDelivered, expectError, Lacking, putLines, runningGate, serve, WRITER } from '../lib/case.mjs';

const RING_BYTES = 4 * 1024 * 1024;
const CONTROL_BYTES = 16 * 1024;
const SLOT_BYTES = 4096;
const SLOTS = 1020;
const NOBODY = 65_534;
const STATE_MASK = 0xfn;
const COMMITTED = 2n;

/** Where the committed slots of a ring are, in the order of their positions. */
function committedSlots(ring) {
  const bytes = fs.readFileSync(ring);
  const slots = [];
  for (let index = 0; index < SLOTS; index += 1) {
    const offset = CONTROL_BYTES + index * SLOT_BYTES;
    const word = bytes.readBigUInt64LE(offset);
    if ((word & STATE_MASK) === COMMITTED) slots.push({ offset, position: Number(word >> 24n) });
  }
  return slots.sort((a, b) => a.position - b.position);
}

function overwrite(file, offset, change) {
  const descriptor = fs.openSync(file, 'r+');
  const bytes = Buffer.alloc(8);
  fs.readSync(descriptor, bytes, 0, 8, offset);
  change(bytes);
  fs.writeSync(descriptor, bytes, 0, 8, offset);
  fs.closeSync(descriptor);
}

/** A ring that was in use and whose daemon and producers are gone. */
async function leftRing(sandbox) {
  const gate = await runningGate(sandbox);
  await putLines(sandbox, gate, 20);
  await expectDelivered(gate);
  await gate.daemon.kill();
  return gate;
}

/** A bad ring file: how it is made bad, and how the daemon refuses it. */
const BAD_FILES = [
  ['a file of the wrong size', 'ERR_ELGATE_RING_INCOMPATIBLE', (ring) => fs.truncateSync(ring, RING_BYTES / 2)],
  [
    'a file of another version',
    'ERR_ELGATE_RING_INCOMPATIBLE',
    (ring) => overwrite(ring, 8, (bytes) => bytes.writeUInt32LE(99)),
  ],
  [
    'a file that is no ring',
    'ERR_ELGATE_RING_INCOMPATIBLE',
    (ring) => fs.writeFileSync(ring, Buffer.alloc(RING_BYTES, 'no ring')),
  ],
  [
    'a ring of other dimensions',
    'ERR_ELGATE_RING_INCOMPATIBLE',
    (ring) => overwrite(ring, 20, (bytes) => bytes.writeUInt32LE(1 << 20)),
  ],
  [
    "somebody else's file",
    /ERR_ELGATE_(PERMISSION_DENIED|RING_INCOMPATIBLE)/,
    (ring) => {
      if (process.getuid() !== 0) throw new Lacking('needs root, to give a file away');
      fs.chownSync(ring, NOBODY, NOBODY);
    },
  ],
];

/**
 * Three appends wait in the ring of a stopped daemon while `spoil` does something to the ring; then the daemon goes on.
 * Resolves to the gate and the outcomes of the three.
 */
async function withSpoiledRing(sandbox, spoil) {
  const gate = await runningGate(sandbox);
  await putLines(sandbox, gate, 20);
  process.kill(gate.daemon.pid, 'SIGSTOP');
  const steps = ['one', 'two', 'three'].map((text) => ({ route: 'access', text }));
  const writer = sandbox.spawn(process.execPath, [WRITER, JSON.stringify(steps)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: gate.env,
  });
  const out = [];
  writer.stdout.on('data', (chunk) => out.push(chunk));
  const [said] = await once(writer.stderr, 'data');
  expect(said.toString().includes('submitted'), `the writer did not submit: ${said}`);
  spoil(committedSlots(sandbox.ring));
  process.kill(gate.daemon.pid, 'SIGCONT');
  await writer.ended;
  return { gate, outcomes: JSON.parse(Buffer.concat(out).toString()) };
}

export const cases = [
  ...BAD_FILES.map(([title, code, spoil]) => ({
    title: `ring: ${title} is refused and left alone`,
    async run(sandbox) {
      const gate = await leftRing(sandbox);
      spoil(sandbox.ring);
      const before = fs.readFileSync(sandbox.ring);
      const outcome = await serve(sandbox, gate.config);
      const found = typeof code === 'string' ? code : (code.exec(outcome.stderr)?.[0] ?? String(code));
      expectError(outcome, { code: found, words: [new RegExp(sandbox.ring)] });
      expect(fs.readFileSync(sandbox.ring).equals(before), 'the file was changed');
      // The way out that the message names: delete it and start again.
      fs.rmSync(sandbox.ring);
      await gate.daemon.start().ready();
      await putLines(sandbox, gate, 5);
      await expectDelivered(gate);
    },
  })),
  {
    title: 'ring: a producer refuses a file that is no ring',
    async run(sandbox) {
      const gate = await makeGate(sandbox, { routes: { access: { sink: 'file', path: 'access.log' } } });
      fs.writeFileSync(sandbox.ring, Buffer.alloc(RING_BYTES, 'no ring'), { mode: 0o600 });
      const outcome = await sandbox.cli(['put', 'access', '--config', gate.config], { input: 'a\n' });
      expectError(outcome, { code: 'ERR_ELGATE_RING_INCOMPATIBLE', words: [new RegExp(sandbox.ring)] });
    },
  },
  {
    title: 'ring: a slot with a flipped bit costs its own operation only',
    async run(sandbox) {
      const { gate, outcomes } = await withSpoiledRing(sandbox, (slots) => {
        expect(slots.length === 3, `expected three committed slots, found ${slots.length}`);
        overwrite(sandbox.ring, slots[1].offset + 0x48, (bytes) => bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0));
      });
      expect(outcomes[0].level === 'durable' && outcomes[2].level === 'durable', JSON.stringify(outcomes));
      expect(outcomes[1].code === 'ERR_ELGATE_SLOT_CORRUPT', JSON.stringify(outcomes));
      gate.expected.access.push('one', 'three');
      await putLines(sandbox, gate, 5);
      await expectDelivered(gate);
      const { shards } = await gate.daemon.status();
      const corrupt = shards.flatMap(({ rings }) => rings).reduce((sum, ring) => sum + ring.corrupt_total, 0);
      expect(corrupt === 1, `status counts ${corrupt} corrupt submissions instead of 1: ${JSON.stringify(shards)}`);
    },
  },
  {
    title: 'ring: an impossible slot word poisons the ring; outcomes are true, producers come back',
    async run(sandbox) {
      const { gate, outcomes } = await withSpoiledRing(sandbox, (slots) => {
        expect(slots.length === 3, `expected three committed slots, found ${slots.length}`);
        overwrite(sandbox.ring, slots[1].offset, (bytes) => bytes.fill(0xff));
      });
      // Either taken, or unknown and retryable; never a false promise, never silence.
      for (const outcome of outcomes) {
        const unknown = outcome.code === 'ERR_ELGATE_RING_CORRUPT' && outcome.retryable === true;
        expect(outcome.level === 'durable' || unknown, JSON.stringify(outcomes));
      }
      expect(outcomes[1].code === 'ERR_ELGATE_RING_CORRUPT', JSON.stringify(outcomes));
      const before = gate.expected.access;
      gate.expected = {};
      const after = await putLines(sandbox, gate, 5);
      await gate.drained(['access']);
      const lines = fs.readFileSync(gate.outputOf('access'), 'utf8').trimEnd().split('\n');
      const salvaged = lines.slice(before.length, lines.length - after.length);
      const certain = ['one', 'two', 'three'].filter((_, index) => outcomes[index].level === 'durable');
      expect(lines.slice(0, before.length).join() === before.join(), `earlier records are damaged: ${lines}`);
      expect(lines.slice(-after.length).join() === after.join(), `later records are damaged: ${lines}`);
      expect(/^(one)?,?(three)?$/.test(salvaged.join()), `salvaged: ${salvaged}`);
      expect(
        certain.every((text) => salvaged.includes(text)),
        `acknowledged ${certain}, found ${salvaged}`,
      );
      const { shards } = await gate.daemon.status();
      const replaced = shards.flatMap(({ rings }) => rings).reduce((sum, ring) => sum + ring.replaced_total, 0);
      expect(replaced === 1, `status counts ${replaced} replaced rings instead of 1: ${JSON.stringify(shards)}`);
    },
  },
];
