// Reads one table of settings. Whatever is wrong becomes one error that names the place, the key
// and the fix.

import { ElgateError } from '../errors.js';
import type { KeyPath } from './document.js';
import { isTable, type Origin } from './layers.js';
import { closest } from './suggest.js';

export class Section {
  readonly #table: Record<string, unknown>;

  /** Refuses any key of `table` that is not in `known`. */
  constructor(
    table: Record<string, unknown>,
    readonly path: KeyPath,
    readonly origin: Origin,
    known: readonly string[],
  ) {
    this.#table = table;
    for (const key of Object.keys(table)) {
      if (known.includes(key)) continue;
      const guess = closest(key, known);
      this.fail(key, guess ? `unknown key; did you mean '${guess}'?` : `unknown key; known here: ${known.join(', ')}`);
    }
  }

  /** Whether the key is set at all. */
  has(key: string): boolean {
    return this.#table[key] !== undefined;
  }

  /** Throws the one error about `key`. */
  fail(key: string, what: string): never {
    const path = [...this.path, key];
    throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${this.origin(path)}: ${path.join('.')}: ${what}`);
  }

  string(key: string): string | undefined {
    const value = this.#table[key];
    if (value === undefined) return undefined;
    if (typeof value !== 'string') this.fail(key, `must be text in quotes, not ${describe(value)}`);
    if (value === '') this.fail(key, 'must not be empty; remove the key to use the default');
    if (value.includes('\0')) this.fail(key, 'must not contain a zero byte');
    return value;
  }

  boolean(key: string, standard: boolean): boolean {
    const value = this.#table[key] ?? standard;
    if (typeof value !== 'boolean') this.fail(key, `must be true or false, not ${describe(value)}`);
    return value;
  }

  integer(key: string, standard: number, range: { min: number; max: number; unit?: string }): number {
    const value = this.#table[key] ?? standard;
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
      this.fail(key, `must be a whole number, not ${describe(value)}`);
    }
    if (value < range.min || value > range.max) {
      const unit = range.unit === undefined ? '' : ` ${range.unit}`;
      this.fail(key, `is ${value}; it must be from ${range.min} to ${range.max}${unit}`);
    }
    return value;
  }

  oneOf<const T extends string>(key: string, values: readonly T[]): T | undefined {
    const value = this.#table[key];
    if (value === undefined) return undefined;
    const found = values.find((candidate) => candidate === value);
    if (found !== undefined) return found;
    const list = values.map((candidate) => `"${candidate}"`).join(', ');
    const guess = typeof value === 'string' ? closest(value, values) : undefined;
    this.fail(key, `must be one of ${list}, not ${describe(value)}${guess ? `; did you mean "${guess}"?` : ''}`);
  }

  strings(key: string): string[] {
    const value = this.#table[key] ?? [];
    if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) {
      this.fail(key, `must be a list of texts, not ${describe(value)}`);
    }
    return value;
  }

  /** The table at `key`, empty if it is not there, as it was written. */
  table(key: string): Record<string, unknown> {
    const value = this.#table[key] ?? {};
    if (!isTable(value)) this.fail(key, `must be a table, not ${describe(value)}`);
    return value;
  }

  /** The table at `key`, empty if it is not there, with its keys checked. */
  section(key: string, known: readonly string[]): Section {
    return new Section(this.table(key), [...this.path, key], this.origin, known);
  }
}

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value);
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  if (isTable(value)) return 'a table';
  return String(value);
}
