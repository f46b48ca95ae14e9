// A directory for one test, removed after it.

import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

export function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(realpathSync(tmpdir()), 'elgate-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
  return directory;
}
