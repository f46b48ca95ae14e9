import { readFileSync } from 'node:fs';
import { renderErrorTable } from '../../scripts/error-table.js';
import { loadConfig } from '../../src/config/load.js';
import { engineJson } from '../../src/config/schema.js';
import type { BuildInfo, DoctorReport } from '../../src/native/binding.js';
import { binding } from '../../src/native/load.js';
import { nativeTest } from '../support/native.js';
import { scratch } from '../support/scratch.js';

nativeTest('the error table here is the one of the engine', (t) => {
  const committed = readFileSync(new URL('../../src/errors.generated.ts', import.meta.url), 'utf8');
  t.is(renderErrorTable(binding().errorTable()), committed, 'run `npm run generate:errors -w elgate`');
});

nativeTest('the addon says what it is', (t) => {
  const info = JSON.parse(binding().buildInfo()) as BuildInfo;
  t.regex(info.version, /^\d+\.\d+\.\d+/);
  t.is(typeof info.sha, 'string');
});

nativeTest('the doctor answers for every finding what to do', (t) => {
  const config = loadConfig({ cwd: scratch(t), env: {} });
  const { findings } = JSON.parse(binding().doctor(engineJson(config))) as DoctorReport;
  t.true(findings.length > 3);
  for (const finding of findings) {
    t.true(['ok', 'warn', 'fail'].includes(finding.level));
    t.true(finding.level === 'ok' || finding.advice !== '', finding.id);
  }
});
