// A configuration file as a plain tree, and the line on which each of its keys stands.
// TOML, or JSON if the name ends in `.json`.

import { readFileSync } from 'node:fs';
import jsonc, { type Node, type ParseError } from 'jsonc-parser';
import { type AST, getStaticTOMLValue, parseTOML, ParseError as TomlParseError } from 'toml-eslint-parser';
import { ElgateError, messageOf } from '../errors.js';

/** Where in a tree: keys from the top down. */
export type KeyPath = readonly string[];

/** A parsed file. */
export interface ConfigDocument {
  readonly file: string;
  readonly tree: Record<string, unknown>;
  /** The line of the key at `path`, or of the nearest key above it. */
  lineOf(path: KeyPath): number;
}

/** Reads and parses `file`; a failure names the file, the line where there is one, and what to do. */
export function readDocument(file: string): ConfigDocument {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : messageOf(error);
    throw new ElgateError(
      'ERR_ELGATE_CONFIG_INVALID',
      `${file}: ${reason}; name another with --config or ELGATE_CONFIG`,
    );
  }
  return file.endsWith('.json') ? parseJson(file, text) : parseToml(file, text);
}

export function parseToml(file: string, text: string): ConfigDocument {
  let program: AST.TOMLProgram;
  try {
    program = parseTOML(text);
  } catch (error) {
    if (!(error instanceof TomlParseError)) throw error;
    throw syntaxError(file, error.lineNumber, `not valid TOML (column ${error.column + 1}: ${error.message})`);
  }
  const lines = new Lines(file);
  for (const node of program.body[0].body) {
    if (node.type === 'TOMLTable') {
      const table = node.resolvedKey.map(String);
      lines.add(table, node.loc.start.line);
      for (const entry of node.body) addTomlKey(lines, table, entry);
    } else {
      addTomlKey(lines, [], node);
    }
  }
  return { file, tree: getStaticTOMLValue(program) as Record<string, unknown>, lineOf: (path) => lines.nearest(path) };
}

function addTomlKey(lines: Lines, above: KeyPath, entry: AST.TOMLKeyValue): void {
  const path = [...above];
  for (const part of entry.key.keys) {
    path.push(part.type === 'TOMLBare' ? part.name : part.value);
    lines.add(path, part.loc.start.line);
  }
  if (entry.value.type === 'TOMLInlineTable') {
    for (const inner of entry.value.body) addTomlKey(lines, path, inner);
  }
}

export function parseJson(file: string, text: string): ConfigDocument {
  const errors: ParseError[] = [];
  const root = jsonc.parseTree(text, errors, { disallowComments: true, allowTrailingComma: false });
  const lineAt = (offset: number) => text.slice(0, offset).split('\n').length;
  const [first] = errors;
  if (first !== undefined) {
    throw syntaxError(file, lineAt(first.offset), `not valid JSON (${jsonc.printParseErrorCode(first.error)})`);
  }
  if (root?.type !== 'object') {
    throw syntaxError(file, 1, 'not a configuration: the file must hold one JSON object');
  }
  const lines = new Lines(file);
  addJsonKeys(lines, [], root, lineAt);
  return {
    file,
    tree: jsonc.getNodeValue(root) as Record<string, unknown>,
    lineOf: (path) => lines.nearest(path),
  };
}

function addJsonKeys(lines: Lines, above: KeyPath, node: Node, lineAt: (offset: number) => number): void {
  for (const property of node.children ?? []) {
    const [key, value] = property.children ?? [];
    if (key === undefined || value === undefined) continue;
    const path = [...above, String(key.value)];
    lines.add(path, lineAt(key.offset));
    if (value.type === 'object') addJsonKeys(lines, path, value, lineAt);
  }
}

function syntaxError(file: string, line: number, what: string): ElgateError {
  return new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${file}:${line}: ${what}; correct the line`);
}

class Lines {
  readonly #byPath = new Map<string, number>();

  constructor(readonly file: string) {}

  /** The first mention of a path is its line. Refuses the key that a tree of objects cannot hold. */
  add(path: KeyPath, line: number): void {
    if (path.includes('__proto__')) {
      const what = 'no key may be called __proto__; choose another name';
      throw new ElgateError('ERR_ELGATE_CONFIG_INVALID', `${this.file}:${line}: ${path.join('.')}: ${what}`);
    }
    const key = JSON.stringify(path);
    if (!this.#byPath.has(key)) this.#byPath.set(key, line);
  }

  nearest(path: KeyPath): number {
    for (let length = path.length; length > 0; length -= 1) {
      const line = this.#byPath.get(JSON.stringify(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return 1;
  }
}
