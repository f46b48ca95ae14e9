// Every failure a user sees: one class, one table of stable codes, shared with the engine.

import { type ElgateErrorCode, ERROR_TABLE } from './errors.generated.js';

export type { ElgateErrorCode } from './errors.generated.js';

interface ErrorRow {
  readonly number: number;
  readonly name: ElgateErrorCode;
  readonly retryable: boolean;
  readonly advice: string;
}

const ROWS: readonly ErrorRow[] = ERROR_TABLE;
const byName = new Map<string, ErrorRow>(ROWS.map((row) => [row.name, row]));
const byNumber = new Map<number, ErrorRow>(ROWS.map((row) => [row.number, row]));

/**
 * What Elgate throws and rejects with. Match on `code`, not on the message and not with
 * `instanceof` (two copies of a package in one process are two classes).
 */
export class ElgateError extends Error {
  override readonly name = 'ElgateError';
  /** Stable, never used for something else. */
  readonly code: ElgateErrorCode;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;

  constructor(code: ElgateErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = byName.get(code)?.retryable ?? false;
  }
}

/** `ERR_ELGATE_ROUTE_UNKNOWN`: route unknown. */
function inWords(code: ElgateErrorCode): string {
  return code.replace('ERR_ELGATE_', '').replaceAll('_', ' ').toLowerCase();
}

/** The error for a code's number, as it crosses shared memory; `what` failed. */
export function errorOfNumber(number: number, what: string): ElgateError {
  const row = byNumber.get(number);
  if (row === undefined) {
    return new ElgateError(
      'ERR_ELGATE_INTERNAL',
      `${what}: unknown error ${number}; daemon and library differ in version`,
    );
  }
  return new ElgateError(row.name, `${what}: ${inWords(row.name)}. ${row.advice}`);
}

/** Turns whatever was thrown into an {@link ElgateError}; the addon's errors carry one of our codes. */
export function toElgateError(error: unknown): ElgateError {
  if (error instanceof ElgateError) return error;
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string' && byName.has(code)) {
    return new ElgateError(code as ElgateErrorCode, messageOf(error), { cause: error });
  }
  return new ElgateError('ERR_ELGATE_INTERNAL', messageOf(error), { cause: error });
}

/** Runs a call into the addon, with its errors turned into {@link ElgateError}. */
export function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw toElgateError(error);
  }
}

/** As {@link guard}, for a call that answers with a promise. */
export async function guardAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw toElgateError(error);
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
