// `elgate doctor`: what this machine gives, and what to mend.

import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { engineJson } from '../../config/schema.js';
import { ElgateError, guard } from '../../errors.js';
import type { DoctorReport } from '../../native/binding.js';
import { binding } from '../../native/load.js';
import { configFor, type WhereOptions, withFlags } from '../locate.js';
import { print, printJson } from '../output.js';

const MARKS = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' } as const;

export function doctorCommand(): Command {
  const command = new Command('doctor')
    .description('check this machine and a data directory: what works, what does not, and how to mend it')
    .argument('[dir]', 'the data directory')
    .option('--json', 'as one JSON object')
    .action((directory: string | undefined, options: WhereOptions & { json?: boolean }) => {
      if (directory !== undefined && !existsSync(directory)) {
        throw new ElgateError('ERR_ELGATE_IO', `${directory} does not exist: name a data directory, or none`);
      }
      const config = configFor(directory === undefined ? options : { ...options, dataDir: directory });
      const report = JSON.parse(guard(() => binding().doctor(engineJson(config)))) as DoctorReport;
      if (options.json) printJson(report);
      else print(render(report));
      if (report.findings.some((finding) => finding.level === 'fail')) process.exitCode = 1;
    });
  return withFlags(command, 'config', 'dataDir', 'ring');
}

function render({ findings }: DoctorReport): string {
  return findings
    .map(
      ({ id, level, what, advice }) =>
        `${MARKS[level]}  ${id}: ${what}${level === 'ok' || advice === '' ? '' : `\n      ${advice}`}`,
    )
    .join('\n');
}
