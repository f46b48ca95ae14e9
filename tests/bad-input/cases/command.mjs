// Commands that cannot be carried out: a payload over the limit, a route that does not exist, no daemon, wrong usage.

import fs from 'node:fs';
import { makeGate } from '../../crash/lib/gate.mjs';
import { expect, expectDelivered, expectError, putLines, runningGate, write } from '../lib/case.mjs';

const LIMIT_BYTES = 1_000_000;

export const cases = [
  {
    title: 'put: a line over the limit is named, the lines before it are kept',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 10);
      const before = ['the line before', 'y'.repeat(LIMIT_BYTES)];
      const input = `${before.join('\n')}\n${'x'.repeat(LIMIT_BYTES + 1)}\n`;
      const outcome = await sandbox.cli(['put', 'access', '--json', '--config', gate.config], { input });
      expectError(outcome, { code: 'ERR_ELGATE_PAYLOAD_TOO_LARGE', words: [/line 3|record 3/i, /1,?000,?000/] });
      gate.expected.access.push(...before);
      await putLines(sandbox, gate, 10);
      await expectDelivered(gate);
    },
  },
  {
    title: 'library: a payload over the limit is refused, its neighbours are taken',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      const steps = [{ text: 'first' }, { bytes: LIMIT_BYTES + 1 }, { bytes: LIMIT_BYTES }, { text: 'last' }];
      const outcomes = await write(
        sandbox,
        gate,
        steps.map((step) => ({ route: 'access', ...step })),
      );
      const refused = outcomes[1];
      expect(refused.code === 'ERR_ELGATE_PAYLOAD_TOO_LARGE' && refused.retryable === false, JSON.stringify(refused));
      expect(/1,?000,?000/.test(refused.message), `the message does not name the limit: ${refused.message}`);
      expect(outcomes.filter(({ level }) => level === 'durable').length === 3, JSON.stringify(outcomes));
      gate.expected = { access: ['first', 'x'.repeat(LIMIT_BYTES), 'last'] };
      await expectDelivered(gate);
    },
  },
  {
    title: 'put: an unknown route',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      await putLines(sandbox, gate, 10);
      const outcome = await sandbox.cli(['put', 'nowhere', '--config', gate.config], { input: 'a\nb\n' });
      expectError(outcome, { code: 'ERR_ELGATE_ROUTE_UNKNOWN', words: [/nowhere/] });
      await expectDelivered(gate);
    },
  },
  {
    title: 'library: an unknown route, and a name that can be none',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      const outcomes = await write(sandbox, gate, [
        { route: 'nowhere', text: 'a' },
        { route: 'No Such Name', text: 'b' },
        { route: 'access', text: 'c' },
      ]);
      expect(outcomes[0].code === 'ERR_ELGATE_ROUTE_UNKNOWN', JSON.stringify(outcomes));
      expect(outcomes[1].code === 'ERR_ELGATE_ROUTE_NAME_INVALID', JSON.stringify(outcomes));
      expect(outcomes[2].level === 'durable', JSON.stringify(outcomes));
    },
  },
  {
    title: 'put, status and library without a daemon',
    async run(sandbox) {
      const gate = await makeGate(sandbox, { routes: { access: { sink: 'file', path: 'access.log' } } });
      const code = 'ERR_ELGATE_DAEMON_UNAVAILABLE';
      const put = await sandbox.cli(['put', 'access', '--config', gate.config], { input: 'a\n' });
      expectError(put, { code, words: [/serve/] });
      const status = await sandbox.cli(['status', '--config', gate.config]);
      expectError(status, { code, words: [/serve/] });
      const [outcome] = await write(sandbox, gate, [{ route: 'access', text: 'a' }]);
      expect(outcome.code === code && outcome.retryable === true, JSON.stringify(outcome));
    },
  },
  {
    title: 'put: a file that is not there, and a directory',
    async run(sandbox) {
      const gate = await runningGate(sandbox);
      for (const file of [sandbox.path('no-such-file'), sandbox.dir]) {
        const outcome = await sandbox.cli(['put', 'access', file, '--config', gate.config]);
        expectError(outcome, { code: 'ERR_ELGATE_', words: [new RegExp(file)] });
      }
      expect(gate.durable('access') === 0, 'something was appended');
    },
  },
  {
    title: 'wrong usage ends with 2 and says what is right',
    async run(sandbox) {
      for (const [args, words] of [
        [['frobnicate'], [/frobnicate/]],
        [['put'], [/route/i]],
        [['put', 'access', '--wait', 'sometimes'], [/durable/]],
        [['serve', '--no-such-flag'], [/no-such-flag/]],
      ]) {
        const outcome = await sandbox.cli(args, { input: '' });
        expectError(outcome, { exit: 2, words });
      }
      expect(fs.readdirSync(sandbox.dir).length === 0, 'wrong usage left files behind');
    },
  },
];
