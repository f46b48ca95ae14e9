// The text of `src/errors.generated.ts` for the engine's error table.

interface Row {
  number: number;
  name: string;
  retryable: boolean;
  advice: string;
}

/** `json` is what the addon's `errorTable()` answers. */
export function renderErrorTable(json: string): string {
  const rows = JSON.parse(json) as Row[];
  const quote = (text: string) =>
    text.includes("'") && !text.includes('"')
      ? JSON.stringify(text)
      : `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const body = rows
    .map(
      (row) =>
        `  {\n    number: ${row.number},\n    name: ${quote(row.name)},\n    retryable: ${row.retryable},\n` +
        `    advice:${line(quote(row.advice))},\n  },\n`,
    )
    .join('');
  return (
    "// Generated from the engine's error table by `npm run generate:errors -w elgate`. Do not edit.\n\n" +
    `export const ERROR_TABLE = [\n${body}] as const;\n\n` +
    '/** Every stable error code. */\n' +
    "export type ElgateErrorCode = (typeof ERROR_TABLE)[number]['name'];\n"
  );
}

/** As the formatter has it: on the same line while that is at most 120 columns wide. */
function line(text: string): string {
  return '    advice: '.length + text.length + 1 <= 120 ? ` ${text}` : `\n      ${text}`;
}
