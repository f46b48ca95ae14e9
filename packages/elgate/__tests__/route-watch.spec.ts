import test from 'ava';
import { RouteWatch } from '../src/cli/route-watch.js';
import type { EngineStatus, RouteStatus } from '../src/native/binding.js';
import { FakeMachine } from './support/fake-binding.js';

/** What is told, look by look. */
async function told(...looks: Partial<RouteStatus>[]): Promise<string[][]> {
  const machine = new FakeMachine();
  const config = { ring: { path: '/ring' }, data_dir: '/data', routes: { a: { sink: 'none' } } };
  const engine = await machine.binding.NativeEngine.open(JSON.stringify(config));
  const watch = new RouteWatch();
  return looks.map((look) => {
    machine.statusOf = () => look;
    return watch.changes((JSON.parse(engine.status()) as EngineStatus).routes);
  });
}

const error = (message: string, code = 'ERR_ELGATE_IO', at_us = 1) => ({ at_us, code, message });
const damage = error('block 3 is\nrot', 'ERR_ELGATE_LOG_CORRUPT');

test('a route that is well is no news, nor is one that was paused', async (t) => {
  t.deepEqual(await told({}, {}), [[], []]);
  t.deepEqual(await told({ state: 'paused' }, { state: 'running' }, { state: 'paused' }), [
    [],
    ['route a is running again (was paused)'],
    ['route a is paused'],
  ]);
});

test('the name that a message begins with is not told twice', async (t) => {
  const looks = await told({ state: 'failed', last_error: error('route a: cannot create /data/a') });
  t.deepEqual(looks, [['route a is failed: cannot create /data/a [ERR_ELGATE_IO]']]);
});

test('damage found at the start, and more of it later, with what is lost', async (t) => {
  const more = { ...damage, at_us: 2, message: 'records 5 to 9 are gone' };
  const looks = await told(
    { damage, last_error: damage, lost_records: 1 },
    { damage, last_error: error('the cursor was lost'), lost_records: 1 },
    { damage: more, last_error: more, lost_records: 1006 },
    { damage: more, last_error: more, lost_records: 1006 },
  );
  t.deepEqual(looks, [
    ['route a: 1 record lost: block 3 is rot [ERR_ELGATE_LOG_CORRUPT]'],
    ['route a: the cursor was lost [ERR_ELGATE_IO]'],
    ['route a: 1,005 records lost, 1,006 in all: records 5 to 9 are gone [ERR_ELGATE_LOG_CORRUPT]'],
    [],
  ]);
});

test('a far end that fails now and then is told once, until it is well for a while', async (t) => {
  const failing = (attempt: number) => ({
    state: 'retrying' as const,
    last_error: error(`record 7: refused; attempt ${attempt}, tried again`),
  });
  const well = { state: 'running' as const, last_error: failing(3).last_error };
  const looks = await told(failing(1), failing(2), well, failing(3), well, well, well, well, well, well);
  t.deepEqual(
    looks.map((lines) => lines.length),
    [1, 0, 0, 0, 0, 0, 0, 0, 1, 0],
  );
  t.is(looks[0]?.[0], 'route a is retrying: record 7: refused; attempt 1, tried again [ERR_ELGATE_IO]');
  t.is(looks[8]?.[0], 'route a is running again (was retrying)');
});

test('a mirror that is away, and back', async (t) => {
  const away = { trouble: 'EIO', segments_behind: 0 };
  const looks = await told(
    { mirror: away },
    { mirror: away },
    { mirror: { trouble: null, segments_behind: 1 } },
    { mirror: away, last_error: error('the mirror of the log cannot be written: EIO. The log goes on') },
  );
  t.deepEqual(looks, [
    ['route a: the mirror cannot be written: EIO'],
    [],
    ['route a: the mirror is written again'],
    ['route a: the mirror of the log cannot be written: EIO. The log goes on [ERR_ELGATE_IO]'],
  ]);
});
