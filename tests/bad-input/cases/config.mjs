// Configuration that cannot be meant: refused with file, line and fix before anything is touched.

import fs from 'node:fs';
import { makeGate } from '../../crash/lib/gate.mjs';
import { until } from '../../crash/lib/wait.mjs';
import { expect, expectDelivered, expectError, putLines, runningGate, serve } from '../lib/case.mjs';

const CODE = 'ERR_ELGATE_CONFIG_INVALID';

/** Text appended to a good configuration, and what the error must say beside `elgate.toml:<line>`. */
const BAD = [
  ['an unknown key in a route', 'sinkk = "file"', [/sinkk/]],
  ['an unknown section', '[adminn]\nlisten = "127.0.0.1:1"', [/adminn/]],
  ['a wrong type', '[routes.other]\nsink = "file"\npath = 7', [/path/, /text/]],
  ['a number out of range', 'segment_bytes = 4097', [/segment_bytes/]],
  ['a file route with a URL', 'url = "http://127.0.0.1:1/"', [/url/, /sink/]],
  ['an http route without a URL', '[routes.other]\nsink = "http"', [/url/]],
  ['a route without a sink', '[routes.other]\npath = "x"', [/sink/]],
  ['two routes that write one file', '[routes.other]\nsink = "file"\npath = "access.log"', [/access/, /path/]],
  [
    'a path outside the sink root',
    '[routes.other]\nsink = "file"\npath = "../../etc/passwd"',
    [/path/, /outside|below/],
  ],
  ['a bad route name', '[routes."No Such Name"]\nsink = "none"', [/No Such Name/]],
  ['more concurrency than the order allows', 'concurrency = 4', [/concurrency/, /order/]],
  ['a first pause above the longest', 'retry = { initial_ms = 500, max_ms = 20 }', [/max_ms|initial_ms/]],
  ['a URL that is none', '[routes.other]\nsink = "http"\nurl = "not a url"', [/url/]],
  ['text that is not TOML', 'this is = = not toml', []],
];

export const cases = [
  ...BAD.map(([title, text, words]) => ({
    title: `config: ${title}`,
    async run(sandbox) {
      const gate = await makeGate(sandbox, { routes: { access: { sink: 'file', path: 'access.log' } } });
      fs.appendFileSync(gate.config, `${text}\n`);
      const outcome = await serve(sandbox, gate.config);
      expectError(outcome, { code: CODE, words: [/elgate\.toml:\d+/, ...words] });
      expect(!fs.existsSync(gate.dataDir), 'the data directory was made for a configuration that was refused');
      expect(!fs.existsSync(sandbox.ring), 'the ring was made for a configuration that was refused');
    },
  })),
  {
    title: 'config: a file that is not there',
    async run(sandbox) {
      const outcome = await serve(sandbox, sandbox.path('missing.toml'));
      expectError(outcome, { code: CODE, words: [/missing\.toml/] });
    },
  },
  {
    title: 'config: an environment variable of the wrong type is named',
    async run(sandbox) {
      const gate = await makeGate(sandbox, { routes: { access: { sink: 'file', path: 'access.log' } } });
      const outcome = await serve(sandbox, gate.config, { env: { ELGATE_SHARDS: 'many' } });
      expectError(outcome, { code: CODE, words: [/ELGATE_SHARDS/] });
    },
  },
  {
    title: 'config: a bad reload keeps what runs, says so, and a good one follows',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 50);
      // Commands read the file as well: theirs stays good.
      const good = fs.readFileSync(gate.config, 'utf8');
      const served = gate.config;
      gate.config = sandbox.write('good.toml', good);
      fs.writeFileSync(served, `${good}\nnonsense_key = true\n`);
      process.kill(gate.daemon.pid, 'SIGHUP');
      const log = () => fs.readFileSync(sandbox.path(gate.daemon.log), 'utf8');
      await until('the daemon to refuse the reload', () => log().includes('nonsense_key'), {
        everyMs: 20,
        timeoutMs: 10_000,
      });
      expect(
        log().includes(CODE) || /elgate\.toml:\d+/.test(log()),
        `the refusal names neither code nor line:\n${log()}`,
      );
      await putLines(sandbox, gate, 50);
      fs.writeFileSync(served, `${good}\n[routes.added]\nsink = "file"\npath = "added.log"\n`);
      process.kill(gate.daemon.pid, 'SIGHUP');
      await until(
        'the good reload',
        async () => (await gate.daemon.status()).routes.some(({ name }) => name === 'added'),
        {
          everyMs: 20,
          timeoutMs: 10_000,
        },
      );
      await expectDelivered(gate);
    },
  },
];
