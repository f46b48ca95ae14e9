// A run's arguments.

import { parseArgs } from 'node:util';

/** Wrong usage; the message says what is right. */
export class Usage extends Error {}

const USAGE = (cases) =>
  `usage: npm run -s bench -- CASE [--json] [--rounds N] [--seconds N] [--dir DIR] [--quick] [--plots] [--write-readme]
  CASE            ${cases.join(', ')}
  --json          one JSON object instead of a table
  --rounds        how often Elgate, the floor and the peers take turns (default 5)
  --seconds       how long each measurement of a round takes (default 2)
  --dir           where to write; on the device that is meant (default .cache/bench in the clone)
  --quick         small segments, and a small log to open after SIGKILL: to see that it runs
  --plots         draw docs/internals/*.svg (case log)
  --write-readme  replace the case's table in bench/README.md`;

/**
 * @param {string[]} argv
 * @param {string[]} cases
 */
export function readArguments(argv, cases) {
  const options = {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    dir: { type: 'string' },
    quick: { type: 'boolean', default: false },
    plots: { type: 'boolean', default: false },
    'write-readme': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  };
  let parsed;
  try {
    parsed = parseArgs({ args: argv, options, allowPositionals: true });
  } catch (error) {
    throw new Usage(`${error.message}\n${USAGE(cases)}`);
  }
  const { values, positionals } = parsed;
  if (values.help || positionals.length !== 1) throw new Usage(USAGE(cases));
  const [name] = positionals;
  if (!cases.includes(name)) throw new Usage(`no case is called '${name}'\n${USAGE(cases)}`);
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Usage(`--rounds takes a whole number from 1, not '${values.rounds}'`);
  if (!(seconds > 0)) throw new Usage(`--seconds takes a number above 0, not '${values.seconds}'`);
  const { json, dir, quick, plots } = values;
  if (plots && name !== 'log') throw new Usage('--plots draws what the case log measures');
  return { name, json, rounds, seconds, directory: dir, quick, plots, writeReadme: values['write-readme'] };
}
