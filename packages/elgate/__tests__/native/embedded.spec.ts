import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { Elgate, type LogRecord, type OpenOptions } from '../../src/index.js';
import { startNode } from '../support/cli.js';
import { nativeTest, segmentBytes } from '../support/native.js';
import { scratch } from '../support/scratch.js';

const LIBRARY = fileURLToPath(new URL('../../src/index.ts', import.meta.url));

function options(home: string, more: Partial<OpenOptions> = {}): OpenOptions {
  return {
    dataDir: join(home, 'data'),
    filesRoot: home,
    ring: join(home, 'ring'),
    routes: {
      kept: { sink: 'none', segmentBytes },
      out: { sink: 'file', path: 'out.log', segmentBytes },
    },
    ...more,
  };
}

async function read(t: ExecutionContext, gate: Elgate, route: string): Promise<string[]> {
  const records: LogRecord[] = [];
  for await (const record of gate.tail(route, { from: 'start', follow: false })) records.push(record);
  t.deepEqual(
    records.map(({ lsn }) => lsn),
    records.map((_, index) => index + 1),
  );
  return records.map((record) => record.text());
}

nativeTest('what was durable is there after a restart, and numbering goes on', async (t) => {
  const home = scratch(t);
  const first = await Elgate.open(options(home));
  t.is((await first.route('kept').append('one')).lsn, 1);
  t.is((await first.route('kept').appendMany(['two', 'three'])).lsn, 3);
  t.deepEqual(await read(t, first, 'kept'), ['one', 'two', 'three']);
  await first.close();
  const second = await Elgate.open(options(home));
  t.is((await second.route('kept').append('four')).lsn, 4);
  t.deepEqual(await read(t, second, 'kept'), ['one', 'two', 'three', 'four']);
  await second.close();
});

nativeTest('thousands at once, of all sizes: in order, whole, and in the file', async (t) => {
  const home = scratch(t);
  const gate = await Elgate.open(options(home));
  const lines = Array.from({ length: 3000 }, (_, index) => `${index} ${'x'.repeat((index * 37) % 2000)}`);
  lines.push('y'.repeat(1_000_000), '');
  const receipts = await Promise.all(lines.map((line) => gate.route('out').append(line)));
  t.deepEqual(
    receipts.map(({ lsn }) => lsn),
    lines.map((_, index) => index + 1),
  );
  t.is((await gate.route('out').append('end', { wait: 'delivered' })).level, 'delivered');
  t.is(readFileSync(join(home, 'out.log'), 'utf8'), [...lines, 'end', ''].join('\n'));
  t.deepEqual(await gate.close(), { drained: true, undelivered: {} });
});

nativeTest('post until the ring is full, wait, go on: nothing is lost', async (t) => {
  const home = scratch(t);
  const gate = await Elgate.open(options(home));
  const kept = gate.route('kept');
  let refusals = 0;
  for (let n = 0; n < 20_000; n += 1) {
    while (!kept.post(`record ${n}`)) {
      refusals += 1;
      await kept.drained();
    }
  }
  t.is((await kept.append('last')).lsn, 20_001);
  t.log(`${refusals} times back-pressure`);
  await gate.close();
});

nativeTest('killed at any moment, what was acknowledged is there', async (t) => {
  const home = scratch(t);
  const program = join(home, 'child.mts');
  writeFileSync(
    program,
    `import { Elgate } from ${JSON.stringify(LIBRARY)};
     const gate = await Elgate.open(${JSON.stringify(options(home))});
     for (let n = 1; ; n += 1) console.log((await gate.route('kept').append('record ' + n)).lsn);`,
  );
  const child = startNode([program]);
  await child.printed(/^200$/m);
  child.kill('SIGKILL');
  const { stdout } = await child.ended;
  const acknowledged = Number(stdout.trim().split('\n').pop());
  const gate = await Elgate.open(options(home));
  const records = await read(t, gate, 'kept');
  t.true(records.length >= acknowledged, `${records.length} of ${acknowledged}`);
  t.deepEqual(
    records,
    records.map((_, index) => `record ${index + 1}`),
  );
  await gate.close();
});

nativeTest('a program that ends by itself, or exits at once, has handed over what it appended', async (t) => {
  for (const end of ['', 'process.exit(0);']) {
    const home = scratch(t);
    const program = join(home, 'child.mts');
    writeFileSync(
      program,
      `import { Elgate } from ${JSON.stringify(LIBRARY)};
       const gate = await Elgate.open(${JSON.stringify(options(home))});
       gate.route('kept').append('appended').catch(() => {});
       gate.route('kept').post('posted');
       ${end}`,
    );
    const { code, stderr } = await startNode([program]).ended;
    t.is(code, 0, stderr);
    const gate = await Elgate.open(options(home));
    await gate.route('kept').append('after');
    t.deepEqual(await read(t, gate, 'kept'), ['appended', 'posted', 'after']);
    await gate.close();
  }
});

nativeTest('one engine per data directory', async (t) => {
  const home = scratch(t);
  const gate = await Elgate.open(options(home));
  await t.throwsAsync(Elgate.open(options(home, { ring: join(home, 'other') })), { code: 'ERR_ELGATE_IN_USE' });
  await gate.close();
  await (await Elgate.open(options(home))).close();
});

nativeTest('refusals carry their code', async (t) => {
  const gate = await Elgate.open(options(scratch(t)));
  await t.throwsAsync(gate.route('nobody').append('x'), { code: 'ERR_ELGATE_ROUTE_UNKNOWN' });
  t.throws(() => gate.route('NO'), { code: 'ERR_ELGATE_ROUTE_NAME_INVALID' });
  await t.throwsAsync(gate.route('kept').append(Buffer.alloc(1_000_001)), { code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE' });
  t.is((await gate.route('kept').append('still works')).lsn, 1);
  await gate.close();
});

nativeTest('a named reader goes on after its last commit, in another engine too', async (t) => {
  const home = scratch(t);
  const first = await Elgate.open(options(home));
  await first.route('kept').appendMany(['1', '2', '3']);
  let late: LogRecord | undefined;
  for await (const record of first.tail('kept', { reader: 'billing', from: 'start' })) {
    if (record.lsn < 2) continue;
    await record.commit();
    late = record;
    break;
  }
  await t.throwsAsync(async () => late?.commit(), { code: 'ERR_ELGATE_CLOSED' });
  await first.close();
  const second = await Elgate.open(options(home));
  const rest: string[] = [];
  for await (const record of second.tail('kept', { reader: 'billing', follow: false })) rest.push(record.text());
  t.deepEqual(rest, ['3']);
  await second.close();
});

nativeTest('a named reader whose cursor is lost starts over, wherever it was to begin, and says so', async (t) => {
  const home = scratch(t);
  const gate = await Elgate.open(options(home));
  await gate.route('kept').appendMany(['1', '2', '3']);
  const tail = async () => {
    const texts: string[] = [];
    for await (const record of gate.tail('kept', { reader: 'billing', from: 'end', follow: false })) {
      texts.push(record.text());
    }
    return texts;
  };
  t.deepEqual(await tail(), []);
  writeFileSync(join(home, 'data/kept/cursors/reader.billing.cursor'), '');
  const warned = once(process, 'warning') as Promise<[Error]>;
  t.deepEqual(await tail(), ['1', '2', '3']);
  t.regex((await warned)[0].message, /kept: .*reader\.billing\.cursor\.damaged-1/);
  await gate.close();
});

nativeTest('a route with flush = "manual" claims no more than accepted until it is flushed', async (t) => {
  const home = scratch(t);
  const gate = await Elgate.open(options(home, { routes: { m: { sink: 'none', flush: 'manual', segmentBytes } } }));
  t.deepEqual(await gate.route('m').append('x'), { route: 'm', lsn: 1, level: 'accepted' });
  t.deepEqual(await read(t, gate, 'm'), []);
  await gate.route('m').flush();
  t.deepEqual(await read(t, gate, 'm'), ['x']);
  await gate.close();
});

nativeTest('the test stub answers as the engine does, and leaves nothing behind', async (t) => {
  const gate = await Elgate.open({ mode: 'test-stub', routes: { a: { sink: 'none' } } });
  t.deepEqual(await gate.route('a').append('x'), { route: 'a', lsn: 1, level: 'durable' });
  await gate.close();
});
