import test from 'ava';
import type { Gap } from '../src/library/types.js';
import { openFake } from './support/gate.js';

test.serial('records come in order with number, time, bytes and text', async (t) => {
  const { gate } = await openFake(t);
  await gate.route('a').appendMany(['one', 'zwei €', '']);
  const seen = [];
  for await (const record of gate.tail('a', { from: 'start', follow: false })) {
    seen.push([record.lsn, record.text(), record.data.length]);
    t.true(record.time instanceof Date);
  }
  t.deepEqual(seen, [
    [1, 'one', 3],
    [2, 'zwei €', 8],
    [3, '', 0],
  ]);
});

test.serial('from: a number, a time, the end', async (t) => {
  const { gate } = await openFake(t);
  await gate.route('a').appendMany(['1', '2', '3']);
  const read = async (from: 'start' | 'end' | number | Date) => {
    const texts: string[] = [];
    for await (const record of gate.tail('a', { from, follow: false })) texts.push(record.text());
    return texts.join('');
  };
  t.is(await read(2), '23');
  t.is(await read('end'), '');
  t.is(await read(new Date(1_700_000_000_000)), '123');
  await t.throwsAsync(read(1.5), { instanceOf: TypeError });
  await t.throwsAsync(read(new Date('never')), { instanceOf: TypeError });
});

test.serial('following goes on until the loop is left', async (t) => {
  const { gate } = await openFake(t);
  await gate.route('a').append('1');
  const seen: string[] = [];
  for await (const record of gate.tail('a', { from: 'start' })) {
    seen.push(record.text());
    if (seen.length === 3) break;
    await gate.route('a').append(String(seen.length + 1));
  }
  t.deepEqual(seen, ['1', '2', '3']);
});

test.serial('an abort ends the wait for records', async (t) => {
  const { gate } = await openFake(t);
  const controller = new AbortController();
  const reading = (async () => {
    for await (const _ of gate.tail('a', { signal: controller.signal })) t.fail();
  })();
  setImmediate(() => controller.abort());
  await t.throwsAsync(reading, { any: true, name: 'AbortError' });
});

test.serial('a named reader goes on after what it committed', async (t) => {
  const { gate } = await openFake(t);
  await gate.route('a').appendMany(['1', '2', '3']);
  for await (const record of gate.tail('a', { from: 'start', reader: 'billing', follow: false })) {
    if (record.lsn === 2) {
      await record.commit();
      break;
    }
  }
  const rest: number[] = [];
  for await (const record of gate.tail('a', { from: 'start', reader: 'billing', follow: false })) rest.push(record.lsn);
  t.deepEqual(rest, [3]);
});

test.serial('committing without a name is refused', async (t) => {
  const { gate } = await openFake(t);
  await gate.route('a').append('1');
  for await (const record of gate.tail('a', { from: 'start', follow: false })) {
    await t.throwsAsync(record.commit(), { code: 'ERR_ELGATE_UNSUPPORTED', message: /reader: "name"/ });
  }
});

test.serial('a gap is told in its place, or ends the iteration', async (t) => {
  const { gate, machine } = await openFake(t);
  machine.gaps.push({ from: 2, to: 3, reason: 'damaged' });
  await gate.route('a').appendMany(['1', '2', '3', '4']);
  const seen: (number | Gap)[] = [];
  for await (const record of gate.tail('a', { from: 'start', follow: false, onGap: (gap) => seen.push(gap) })) {
    seen.push(record.lsn);
  }
  t.deepEqual(seen, [1, { from: 2, to: 3, reason: 'damaged' }, 4]);
  const read: number[] = [];
  const reading = (async () => {
    for await (const record of gate.tail('a', { from: 'start', follow: false })) read.push(record.lsn);
  })();
  await t.throwsAsync(reading, { code: 'ERR_ELGATE_LOG_CORRUPT', message: /records 2 to 3 .*damaged.*onGap/ });
  t.deepEqual(read, [1]);
});
