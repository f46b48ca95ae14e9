// What commands print, and how.

import { ElgateError } from '../errors.js';

/** `text` on one line, for errors. */
export function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ');
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** Left-aligned columns, two spaces apart. Without rows: nothing. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const lines = [header, ...rows].map((row) => row.map(String));
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** Bytes in the largest binary unit that keeps a whole digit. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? rest : rest.toFixed(1)} ${units[unit]}`;
}

/** Writes and waits while the reader is slow. */
export function write(data: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(data, (error) => (error ? reject(error) : resolve()));
  });
}

/**
 * `elgate tail | head`: when the reader has gone there is nothing left to do. What cannot be written for
 * another reason ends the command with `exitCode`.
 */
export function endWhenNobodyReads(exitCode: number): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    const why = error.code ?? oneLine(error.message);
    process.stderr.write(`elgate: cannot write to standard output: ${why} [ERR_ELGATE_IO]\n`);
    process.exit(exitCode);
  });
}

/** An option that must be a number of seconds. */
export function parseSeconds(name: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && value >= 0 && value <= 1e6) return value;
    throw new ElgateError('ERR_ELGATE_USAGE', `${name} must be a number of seconds, not ${JSON.stringify(text)}`);
  };
}

/** An option that must be a whole number. */
export function parseWhole(name: string): (text: string) => number {
  return (text) => {
    if (/^\d{1,15}$/.test(text)) return Number(text);
    throw new ElgateError('ERR_ELGATE_USAGE', `${name} must be a whole number, not ${JSON.stringify(text)}`);
  };
}
