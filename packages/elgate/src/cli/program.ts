// All commands together, and what becomes of their failures: one line on standard error, exit code 1;
// wrong usage, exit code 2. `elgate fsck` has the exit codes of its kind.

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { type ElgateError, toElgateError } from '../errors.js';
import { doctorCommand } from './commands/doctor.js';
import { FSCK_EXIT, fsckCommand } from './commands/fsck.js';
import { inspectCommand } from './commands/inspect.js';
import { putCommand } from './commands/put.js';
import { routesCommand } from './commands/routes.js';
import { serveCommand } from './commands/serve.js';
import { statusCommand } from './commands/status.js';
import { tailCommand } from './commands/tail.js';
import { endWhenNobodyReads, oneLine } from './output.js';

const COMMANDS = [
  serveCommand,
  putCommand,
  tailCommand,
  statusCommand,
  routesCommand,
  inspectCommand,
  doctorCommand,
  fsckCommand,
];

/** Runs one command line, without `node` and script; answers the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const exit = args[0] === 'fsck' ? FSCK_EXIT : { failed: 1, usage: 2 };
  endWhenNobodyReads(exit.failed);
  const program = new Command('elgate')
    .description('Hand over I/O through shared memory: durable in microseconds, carried out in order, whatever dies')
    .version(version())
    .showSuggestionAfterError();
  for (const command of COMMANDS) program.addCommand(command());
  for (const command of all(program)) {
    command.exitOverride().configureOutput({
      outputError: (text, write) =>
        write(
          `elgate: ${oneLine(text.replace(/^error: /, '')).replace(/\.$/, '')}; see \`${fullName(command)} --help\`\n`,
        ),
    });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : exit.usage;
    const error = toElgateError(thrown);
    process.stderr.write(`elgate: ${oneLine(error.message)} [${error.code}]\n`);
    return isWrongUsage(error) ? exit.usage : exit.failed;
  }
}

/** What was typed is wrong, whatever the machine and the daemon are like. */
function isWrongUsage({ code, message }: ElgateError): boolean {
  if (code === 'ERR_ELGATE_USAGE' || code === 'ERR_ELGATE_ROUTE_NAME_INVALID') return true;
  return code === 'ERR_ELGATE_CONFIG_INVALID' && message.startsWith('--');
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

function all(command: Command): Command[] {
  return [command, ...command.commands.flatMap(all)];
}

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
