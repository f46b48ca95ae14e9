// Writes `src/errors.generated.ts` from the addon's error table: `npm run generate:errors -w elgate`.

import { writeFileSync } from 'node:fs';
import { binding } from '../src/native/load.js';
import { renderErrorTable } from './error-table.js';

writeFileSync(new URL('../src/errors.generated.ts', import.meta.url), renderErrorTable(binding().errorTable()));
