// Standard input, where there is something to read.

import { fstatSync, readFileSync, statSync } from 'node:fs';
import { ElgateError } from '../errors.js';

const ACCESS_MODE = 0o3;
const READ_AND_WRITE = 0o2;

/** Throws `ERR_ELGATE_IO` if it is a directory or closed: Node reads both as empty. */
export function checkStandardInput(): void {
  const input = fstatSync(0);
  if (input.isDirectory()) fail('it is a directory');
  if (input.isCharacterDevice() && input.rdev === statSync('/dev/null').rdev && isOpenForWriting()) {
    fail('it is closed, or /dev/null opened for writing: nothing can come from it');
  }
}

/** What Node itself has opened in the place of a closed one is; what a shell redirects is not. */
function isOpenForWriting(): boolean {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/fdinfo/0', 'utf8'))?.[1] ?? '0';
  return (Number.parseInt(flags, 8) & ACCESS_MODE) === READ_AND_WRITE;
}

function fail(what: string): never {
  throw new ElgateError('ERR_ELGATE_IO', `cannot read standard input: ${what}`);
}
