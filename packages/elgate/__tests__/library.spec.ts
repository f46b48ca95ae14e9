import { randomBytes } from 'node:crypto';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ElgateError } from '../src/errors.js';
import { Elgate } from '../src/library/elgate.js';
import { ROUTE_QUEUE_BYTES_MAX } from '../src/library/producer.js';
import { provideBinding } from '../src/native/load.js';
import { FakeMachine } from './support/fake-binding.js';
import { nativeError } from './support/fake-ring.js';
import { connectFake, openFake } from './support/gate.js';
import { scratch } from './support/scratch.js';

// One fake addon per process: these tests run one after the other.

const tick = () => new Promise((resolve) => setImmediate(resolve));

test.serial('append resolves at durable, with the number of its record', async (t) => {
  const { gate } = await openFake(t);
  const a = gate.route('a');
  t.deepEqual(await a.append('one'), { route: 'a', lsn: 1, level: 'durable' });
  t.deepEqual(await a.append(Buffer.from('two')), { route: 'a', lsn: 2, level: 'durable' });
  t.is((await gate.route('b').append('x')).lsn, 1);
  t.is(gate.route('a'), a);
});

test.serial('appends of one tick, and of the microtasks after it, travel together', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  const late = Promise.resolve().then(async () => {
    await null;
    return a.append('three');
  });
  const receipts = await Promise.all([a.append('one'), a.append('two'), late]);
  t.deepEqual(
    receipts.map(({ lsn }) => lsn),
    [1, 2, 3],
  );
  t.deepEqual(
    machine.ring.taken.map(({ records }) => records),
    [['one', 'two', 'three']].flatMap((x) => [x]),
  );
});

test.serial('a full slot is handed over at once, and order is kept whatever the sizes', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  const sizes = [10, 4000, 3, 100_000, 0, 1_000_000, 5, 2000, 2000, 2000];
  const data = sizes.map((size) => randomBytes(size));
  const receipts = await Promise.all(data.map((bytes) => a.append(bytes)));
  t.deepEqual(
    receipts.map(({ lsn }) => lsn),
    sizes.map((_, index) => index + 1),
  );
  t.deepEqual(
    machine.ring.taken.flatMap(({ records }) => records),
    data.map((bytes) => bytes.toString('latin1')),
  );
  t.true(machine.ring.taken.length < sizes.length);
});

test.serial('the caller may reuse its buffer as soon as append has returned', async (t) => {
  const { gate, machine } = await openFake(t);
  const buffer = Buffer.from('first');
  const first = gate.route('a').append(buffer);
  buffer.write('SPOIL');
  await first;
  t.deepEqual(machine.ring.taken[0]?.records, ['first']);
});

test.serial('a payload over the limit is refused, alone', async (t) => {
  const { gate } = await openFake(t);
  const a = gate.route('a');
  const good = a.append('good');
  const error = await t.throwsAsync<ElgateError>(a.append(Buffer.alloc(1_000_001)), {
    code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE',
  });
  t.false(error.retryable);
  t.is((await good).lsn, 1);
  await t.throwsAsync(a.append('é'.repeat(500_001)), { code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE' });
  await t.throwsAsync(a.appendMany(['x', Buffer.alloc(1_000_001)]), { code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE' });
  t.is((await a.append('next')).lsn, 2);
});

test.serial('appendMany is one group with consecutive numbers', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  const [before, group] = await Promise.all([a.append('0'), a.appendMany(['1', '2', '3'])]);
  t.is(before.lsn, 1);
  t.deepEqual(group, { route: 'a', firstLsn: 2, lsn: 4, count: 3, level: 'durable' });
  t.deepEqual(
    machine.ring.taken.map(({ records }) => records.length),
    [1, 3],
  );
  await t.throwsAsync(a.appendMany([]), { instanceOf: TypeError });
});

test.serial('a group larger than a submission goes as several, in order', async (t) => {
  const { gate, machine } = await openFake(t);
  const records = Array.from({ length: 10_000 }, (_, index) => `record ${index} ${'x'.repeat(200)}`);
  const group = await gate.route('a').appendMany(records);
  t.deepEqual([group.firstLsn, group.lsn, group.count], [1, 10_000, 10_000]);
  t.true(machine.ring.taken.length > 1);
  t.deepEqual(
    machine.ring.taken.flatMap((taken) => taken.records),
    records,
  );
});

test.serial('wait: accepted resolves once the ring has it, delivered once the sink has', async (t) => {
  const { gate, machine } = await openFake(t);
  machine.ring.held = true;
  t.deepEqual(await gate.route('a').append('x', { wait: 'accepted' }), { route: 'a', lsn: 0, level: 'accepted' });
  machine.ring.held = false;
  machine.ring.deliveriesHeld = true;
  let delivered = 0;
  const waiting = ['y', 'z'].map((data) =>
    gate
      .route('a')
      .append(data, { wait: 'delivered' })
      .then((receipt) => {
        delivered += 1;
        return receipt;
      }),
  );
  await gate.route('a').append('w');
  t.is(delivered, 0);
  machine.ring.deliverAll();
  t.deepEqual(
    (await Promise.all(waiting)).map(({ lsn, level }) => [lsn, level]),
    [
      [2, 'delivered'],
      [3, 'delivered'],
    ],
  );
});

test.serial('a receipt never claims more than was reached', async (t) => {
  const { gate, machine } = await openFake(t);
  machine.ring.level = 1;
  t.is((await gate.route('a').append('x')).level, 'accepted');
  t.is((await gate.route('a').append('x', { wait: 'delivered' })).level, 'accepted');
});

test.serial('a full ring queues appends in order; drained tells when post has room', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  machine.ring.capacity = 2;
  machine.ring.held = true;
  t.true(a.post('1'));
  t.true(a.post('2'));
  t.false(a.post('refused'));
  const queued: Promise<unknown>[] = [];
  for (let n = 3; n <= 40; n += 1) {
    queued.push(a.append(`${n}`.padEnd(1000, '.')));
    if (n % 10 === 0) await tick();
  }
  t.false(a.post('refused'), 'nothing may overtake what queues');
  let drained = false;
  const room = a.drained().then(() => {
    drained = true;
  });
  await tick();
  t.false(drained);
  machine.ring.held = false;
  machine.ring.schedule();
  await Promise.all([...queued, room]);
  t.true(a.post('41'));
  await a.append('42');
  const numbers = machine.ring.taken.flatMap(({ records }) => records.map((record) => Number.parseInt(record, 10)));
  t.deepEqual(
    numbers,
    Array.from({ length: 42 }, (_, index) => index + 1),
  );
});

test.serial('what queues is bounded: beyond that, append rejects and nothing is lost', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  machine.ring.capacity = 0;
  const large = Buffer.alloc(1_000_000);
  const outcomes: Promise<unknown>[] = [];
  for (let bytes = 0; bytes < ROUTE_QUEUE_BYTES_MAX + 5_000_000; bytes += large.length) {
    outcomes.push(
      a.append(large).then(
        (receipt) => receipt.lsn,
        (error) => error.code,
      ),
    );
  }
  machine.ring.capacity = 1000;
  machine.ring.schedule();
  const results = await Promise.all(outcomes);
  const refused = results.filter((result) => result === 'ERR_ELGATE_BACKPRESSURE').length;
  t.true(refused > 0 && refused < 10, `${refused}`);
  t.deepEqual(
    results.slice(0, -refused),
    Array.from({ length: results.length - refused }, (_, index) => index + 1),
  );
});

test.serial('a route that takes nothing for now does not hold up another one', async (t) => {
  const { gate, machine } = await openFake(t);
  const [a, b] = [gate.route('a'), gate.route('b')];
  machine.ring.parked.add('a');
  const stuck = a.append('1');
  t.false(a.post('2'));
  const room = a.drained();
  let isOpen = false;
  void room.then(() => {
    isOpen = true;
  });
  await b.drained();
  t.is((await b.append('x')).lsn, 1);
  t.true(b.post('y'));
  await tick();
  t.false(isOpen);
  machine.ring.parked.delete('a');
  machine.ring.schedule();
  await room;
  t.is((await stuck).lsn, 1);
});

test.serial(
  'routes that take nothing for now leave the ring to one that does, however much waits for them',
  async (t) => {
    const { gate, machine } = await openFake(t);
    machine.ring.routes = undefined;
    const large = Buffer.alloc(1_000_000);
    const stuck: Promise<unknown>[] = [];
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      machine.ring.parked.add(name);
      for (let bytes = 0; bytes < ROUTE_QUEUE_BYTES_MAX; bytes += large.length) {
        stuck.push(
          gate
            .route(name)
            .append(large)
            .catch((error) => error.code),
        );
      }
    }
    t.is((await gate.route('f').append(large)).lsn, 1);
    machine.ring.parked.clear();
    machine.ring.schedule();
    t.true((await Promise.all(stuck)).includes('ERR_ELGATE_BACKPRESSURE'), 'all of them together are bounded');
  },
);

test.serial('one slow ring client does not hold up another route', async (t) => {
  const { gate, machine } = await openFake(t);
  machine.ring.deliveriesHeld = true;
  const stuck = gate.route('a').append('x', { wait: 'delivered' });
  t.is((await gate.route('b').append('y')).lsn, 1);
  machine.ring.deliverAll();
  await stuck;
});

test.serial('refusals reject with their code; a posted one is reported once, where it was posted', async (t) => {
  const { gate } = await openFake(t);
  const error = await t.throwsAsync<ElgateError>(gate.route('nobody').append('x'), {
    code: 'ERR_ELGATE_ROUTE_UNKNOWN',
  });
  t.regex(error.message, /route nobody: route unknown\. Add .*`elgate routes`/);
  t.true(gate.route('nobody').post('x'));
  await tick();
  await tick();
  await gate.route('a').drained();
  await t.throwsAsync(gate.route('nobody').drained(), {
    code: 'ERR_ELGATE_ROUTE_UNKNOWN',
    message: /a record posted to route nobody was refused/,
  });
  await gate.route('nobody').drained();
  t.throws(() => gate.route('NO'), { instanceOf: ElgateError, code: 'ERR_ELGATE_ROUTE_NAME_INVALID' });
  t.throws(() => gate.route('a').post(Buffer.alloc(1_000_001)), { code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE' });
});

test.serial('an aborted append stops waiting, and the record is carried out all the same', async (t) => {
  const { gate, machine } = await openFake(t);
  machine.ring.held = true;
  const controller = new AbortController();
  const waiting = gate.route('a').append('x', { signal: controller.signal });
  await tick();
  controller.abort();
  await t.throwsAsync(waiting, { any: true, name: 'AbortError' });
  await t.throwsAsync(gate.route('a').append('never', { signal: controller.signal }), {
    any: true,
    name: 'AbortError',
  });
  machine.ring.held = false;
  machine.ring.schedule();
  await gate.route('a').append('y');
  t.deepEqual(
    machine.ring.taken.flatMap(({ records }) => records),
    ['x', 'y'],
  );
});

test.serial('the process is kept alive exactly while somebody waits', async (t) => {
  const { gate, machine } = await openFake(t);
  const [client] = machine.ring.clients;
  t.false(client?.referenced);
  machine.ring.held = true;
  const controller = new AbortController();
  const waiting = gate.route('a').append('x', { signal: controller.signal });
  t.true(client?.referenced);
  controller.abort();
  await t.throwsAsync(waiting, { any: true });
  await tick();
  t.false(client?.referenced);
});

test.serial('close waits for what was appended; afterwards everything says closed', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  const receipt = a.append('x');
  const closing = gate.close();
  t.throws(() => gate.route('b'), { code: 'ERR_ELGATE_CLOSED' });
  await t.throwsAsync(a.append('y'), { code: 'ERR_ELGATE_CLOSED' });
  t.is((await receipt).lsn, 1);
  t.deepEqual(await closing, { drained: true, undelivered: { a: 0 } });
  t.is(gate.close(), closing);
  t.throws(() => a.post('y'), { code: 'ERR_ELGATE_CLOSED' });
  await t.throwsAsync(a.drained(), { code: 'ERR_ELGATE_CLOSED' });
  t.throws(() => gate.tail('a'), { code: 'ERR_ELGATE_CLOSED' });
  t.is(machine.ring.clients.size, 0);
});

test.serial('close answers those whose outcome it could not wait for', async (t) => {
  const { gate, machine } = await connectFake(t);
  machine.ring.capacity = 1;
  machine.ring.held = true;
  const inRing = gate.route('a').append('x');
  await tick();
  const queued = gate.route('a').append('y');
  const outcomes = Promise.allSettled([inRing, queued]);
  await gate.close({ drainMs: 1 });
  const codes = (await outcomes).map((outcome) => (outcome as PromiseRejectedResult).reason.code);
  t.deepEqual(codes, ['ERR_ELGATE_TIMEOUT', 'ERR_ELGATE_CLOSED']);
});

test.serial('what is not bytes, and a level that does not exist, are refused and leave nothing behind', async (t) => {
  const { gate, machine } = await openFake(t);
  const a = gate.route('a');
  for (const bad of [undefined, null, 5, {}, [1]]) {
    await t.throwsAsync(a.append(bad as never), { instanceOf: TypeError });
    await t.throwsAsync(a.appendMany(['x', bad as never]), { instanceOf: TypeError });
    t.throws(() => a.post(bad as never), { instanceOf: TypeError });
  }
  await t.throwsAsync(a.append('x', { wait: 'synced' as never }), {
    instanceOf: TypeError,
    message: /accepted, durable, delivered/,
  });
  t.false([...machine.ring.clients][0]?.referenced);
  t.is((await a.append('x')).lsn, 1);
});

test.serial('await using closes', async (t) => {
  const { gate, machine } = await openFake(t);
  await gate[Symbol.asyncDispose]();
  t.false(machine.ring.alive);
});

test.serial('options become the configuration of the engine', async (t) => {
  const { machine } = await openFake(t, {
    routes: {
      h: {
        sink: 'http',
        url: 'http://far.test/in',
        headers: { 'X-Key': 'k' },
        retry: { initialMs: 7, maxAttempts: 2 },
        retain: { maxAgeS: 60 },
      },
    },
  });
  const { routes, ring } = JSON.parse(machine.configs[0] as string);
  t.deepEqual(routes.h.retry, { initial_ms: 7, max_ms: 30_000, max_attempts: 2 });
  t.deepEqual(routes.h.headers, { 'X-Key': 'k' });
  t.is(routes.h.retain.max_age_s, 60);
  t.true(ring.remove_on_close);
});

test.serial('a wrong option is refused by name', async (t) => {
  const options = { dataDirectory: 'x' } as object;
  await t.throwsAsync(Elgate.open(options), {
    code: 'ERR_ELGATE_CONFIG_INVALID',
    message: /^open: unknown option dataDirectory; known are config/,
  });
  await t.throwsAsync(Elgate.open({ dataDri: 'x' } as object), { message: /did you mean 'dataDir'/ });
  await t.throwsAsync(Elgate.connect({ rnig: '/dev/shm/x' } as object), {
    code: 'ERR_ELGATE_CONFIG_INVALID',
    message: /did you mean 'ring'/,
  });
  const routes = { a: { sink: 'file' as const } };
  await t.throwsAsync(Elgate.open({ routes, dataDir: scratch(t) }), {
    message: /^option routes: routes\.a\.path: is missing/,
  });
});

test.serial('one data directory has one ring, by whatever path it is named', async (t) => {
  const home = scratch(t);
  mkdirSync(join(home, 'data'));
  symlinkSync(join(home, 'data'), join(home, 'link'));
  const rings: string[] = [];
  for (const name of ['data', 'link']) {
    const { machine, gate } = await openFake(t, { dataDir: join(home, name) });
    rings.push(JSON.parse(machine.configs[0] as string).ring.path);
    await gate.close();
  }
  t.is(rings[0], rings[1]);
});

test.serial("the engine's refusal to open is passed on", async (t) => {
  const machine = new FakeMachine();
  machine.openFailure = nativeError('ERR_ELGATE_IN_USE', 'data directory x is in use by pid 1: stop it');
  provideBinding(machine.binding);
  t.teardown(() => provideBinding(undefined));
  const error = await t.throwsAsync<ElgateError>(Elgate.open({ dataDir: scratch(t) }), { code: 'ERR_ELGATE_IN_USE' });
  t.is(error.name, 'ElgateError');
  t.regex(error.message, /pid 1/);
});

test.serial('connect without a daemon says how to start one', async (t) => {
  provideBinding(new FakeMachine().binding);
  t.teardown(() => provideBinding(undefined));
  const error = await t.throwsAsync<ElgateError>(Elgate.connect({ ring: '/none' }), {
    code: 'ERR_ELGATE_DAEMON_UNAVAILABLE',
  });
  t.true(error.retryable);
});
