import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, start, startNode } from '../support/cli.js';
import { nativeTest, segmentBytes } from '../support/native.js';
import { scratch } from '../support/scratch.js';

const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));

nativeTest('embedded.ts: twice, the second run goes on after the first', async (t) => {
  const cwd = scratch(t);
  for (const first of [1, 4]) {
    const { code, stdout, stderr } = await startNode([example('embedded.ts')], { cwd }).ended;
    t.is(code, 0, stderr);
    t.regex(
      stdout,
      new RegExp(`^order ${first} is durable\norders ${first + 1} to ${first + 2} are delivered\n1: one coffee\n`),
    );
  }
});

nativeTest('embedded.mjs', async (t) => {
  const { code, stdout, stderr } = await startNode([example('embedded.mjs')], { cwd: scratch(t) }).ended;
  t.is(code, 0, stderr);
  t.is(stdout, '10001 events are durable\n');
});

nativeTest('connected.mjs and connected.ts', async (t) => {
  const cwd = scratch(t);
  writeFileSync(
    join(cwd, 'elgate.toml'),
    `[ring]\npath = "${cwd}/ring"\n[admin]\nlisten = "127.0.0.1:0"\n[routes.access]\nsink = "none"\nsegment_bytes = ${segmentBytes}\n`,
  );
  const missing = await startNode([example('connected.mjs')], { cwd }).ended;
  t.not(missing.code, 0);
  t.regex(missing.stderr, /ERR_ELGATE_DAEMON_UNAVAILABLE/);
  const daemon = start(['serve'], { cwd });
  t.teardown(() => daemon.kill('SIGKILL'));
  await daemon.printed(/route +access/);
  const producer = await startNode([example('connected.mjs')], { cwd }).ended;
  t.is(producer.code, 0, producer.stderr);
  t.regex(producer.stdout, /^durable: access\/1 access\/2 access\/3\nERR_ELGATE_ROUTE_UNKNOWN: /);
  const consumer = await startNode([example('connected.ts')], { cwd }).ended;
  t.is(
    consumer.stdout,
    'billing record 1: GET /\nbilling record 2: GET /style.css\nbilling record 3: POST /cart\n',
    consumer.stderr,
  );
  t.is((await run(['put', 'access'], { cwd, stdin: 'GET /more\n' })).code, 0);
  const again = await startNode([example('connected.ts')], { cwd }).ended;
  t.is(again.stdout, 'billing record 4: GET /more\n', again.stderr);
});
