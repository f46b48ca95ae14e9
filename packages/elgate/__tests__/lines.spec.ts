import { randomBytes } from 'node:crypto';
import test from 'ava';
import { LineSplitter, LineTooLong } from '../src/cli/lines.js';
import { Packer, packAlone } from '../src/library/packer.js';

function split(input: Buffer, chunkBytes: number, limit = 1000): Buffer[] {
  const splitter = new LineSplitter(limit);
  const lines: Buffer[] = [];
  for (let at = 0; at < input.length; at += chunkBytes) {
    for (const line of splitter.push(input.subarray(at, at + chunkBytes))) lines.push(Buffer.from(line));
  }
  const last = splitter.end();
  return last === undefined ? lines : [...lines, last];
}

test('joined again, the lines are the input, however it was cut', (t) => {
  const input = Buffer.concat([Buffer.from('a\r\n\n\0b\n'), randomBytes(3000), Buffer.from('\nlast')]);
  for (const chunk of [1, 2, 7, 64, 5000]) {
    t.deepEqual(
      Buffer.from(
        split(input, chunk, 4000)
          .map((line) => line.toString('latin1'))
          .join('\n'),
        'latin1',
      ),
      input,
    );
  }
});

test('a final line feed ends the last line, it does not begin another', (t) => {
  t.is(split(Buffer.from('a\nb\n'), 3).length, 2);
  t.is(split(Buffer.from('a\nb'), 3).length, 2);
  t.is(split(Buffer.from('\n'), 1).length, 1);
  t.is(split(Buffer.alloc(0), 1).length, 0);
});

test('a line at the limit passes, one byte more names its number', (t) => {
  for (const chunk of [1, 3, 1000]) {
    t.is(split(Buffer.from('xxxx\nyyyyy\n'), chunk, 5).length, 2);
    const error = t.throws(() => split(Buffer.from('x\nyyyyyy\n'), chunk, 5), { instanceOf: LineTooLong });
    t.is(error.line, 2);
  }
});

test('a packer holds what fits, and says when something does not', (t) => {
  const packer = new Packer(16);
  t.true(packer.add('abcd'));
  t.true(packer.add(Buffer.from([0, 255])));
  t.false(packer.add('xyz'));
  t.is(packer.count, 2);
  t.deepEqual(Buffer.from(packer.copy()), Buffer.from('04000000616263640200000000ff', 'hex'));
  packer.clear();
  t.true(packer.add('üüüüüü'));
  t.false(packer.add(''));
});

test('text is packed as UTF-8, whole or not at all', (t) => {
  const packer = new Packer(4 + 3);
  t.true(packer.add('€'));
  packer.clear();
  t.false(packer.add('€€'));
  t.is(packer.bytes, 0);
  t.is(packAlone('\ud800').bytes, 4 + 3);
});

test('a submission never holds more records than the ring allows', (t) => {
  const packer = new Packer(1_000_000);
  let records = 0;
  while (packer.add('')) records += 1;
  t.is(records, 4096);
});
