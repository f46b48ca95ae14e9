// One route's settings: what may be said, what contradicts, and what stands in for the unsaid.

import { isAbsolute, resolve, sep } from 'node:path';
import type { KeyPath } from './document.js';
import type { Origin } from './layers.js';
import { Section } from './section.js';

/** A route as the engine takes it: complete. */
export interface RouteConfig {
  sink: 'file' | 'http' | 'none';
  /** Below `files.root`. */
  path?: string;
  framing?: 'newline' | 'none';
  url?: string;
  content_type?: string;
  headers?: Record<string, string>;
  order: 'route' | 'none';
  concurrency: number;
  retry: { initial_ms: number; max_ms: number; max_attempts: number };
  timeout_ms: number;
  flush: 'auto' | 'manual' | 'none';
  segment_bytes: number;
  retain: { max_bytes: number | null; max_age_s: number | null };
  /** Absolute. */
  mirror?: string;
  paused: boolean;
}

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const SEGMENT_BYTES = { min: 4 * MiB, max: 4 * GiB, unit: 'bytes' };
const U32_MAX = 2 ** 32 - 1;

const COMMON = [
  'sink',
  'order',
  'concurrency',
  'retry',
  'timeout_ms',
  'flush',
  'segment_bytes',
  'retain',
  'mirror',
  'paused',
] as const;
const FILE_ONLY = ['path', 'framing'] as const;
const HTTP_ONLY = ['url', 'content_type', 'headers'] as const;

/** Sent by the sink itself. */
const OWN_HEADERS = ['host', 'content-length', 'transfer-encoding', 'connection', 'idempotency-key'];

/** Reads the table of one route. `filesRoot` is absolute. */
export function parseRoute(
  table: Record<string, unknown>,
  path: KeyPath,
  origin: Origin,
  filesRoot: string,
): RouteConfig {
  const section: Section = new Section(table, path, origin, [...COMMON, ...FILE_ONLY, ...HTTP_ONLY]);
  const sink = section.oneOf('sink', ['file', 'http', 'none']);
  if (sink === undefined) section.fail('sink', 'is missing; add sink = "file", "http" or "none"');
  if (sink !== 'file') refuse(section, FILE_ONLY, sink, 'file');
  if (sink !== 'http') refuse(section, HTTP_ONLY, sink, 'http');
  const order = section.oneOf('order', ['route', 'none']) ?? 'route';
  const segmentBytes = section.integer('segment_bytes', 64 * MiB, SEGMENT_BYTES);
  if (segmentBytes % 4096 !== 0) section.fail('segment_bytes', `is ${segmentBytes}; it must be a multiple of 4096`);
  return {
    sink,
    ...(sink === 'file' ? fileSink(section, filesRoot) : {}),
    ...(sink === 'http' ? httpSink(section) : {}),
    order,
    concurrency: concurrency(section, order),
    retry: retry(section),
    timeout_ms: section.integer('timeout_ms', 30_000, { min: 1, max: U32_MAX }),
    flush: section.oneOf('flush', ['auto', 'manual', 'none']) ?? 'auto',
    segment_bytes: segmentBytes,
    retain: retain(section, segmentBytes),
    ...mirror(section),
    paused: section.boolean('paused', false),
  };
}

function refuse(section: Section, keys: readonly string[], sink: string, needed: string): void {
  for (const key of keys) {
    if (section.has(key)) section.fail(key, `contradicts sink = "${sink}"; remove it, or set sink = "${needed}"`);
  }
}

function fileSink(section: Section, filesRoot: string): Pick<RouteConfig, 'path' | 'framing'> {
  const path = section.string('path');
  if (path === undefined) section.fail('path', 'is missing; a file sink needs the file to append to');
  const below = resolve(filesRoot, path);
  const root = filesRoot.endsWith(sep) ? filesRoot : filesRoot + sep;
  if (!below.startsWith(root)) {
    section.fail('path', `${below} is outside ${filesRoot}; name a path below it, or set files.root`);
  }
  if (path.endsWith('/')) section.fail('path', `${path} names a directory; name a file in it`);
  return { path: below.slice(root.length), framing: section.oneOf('framing', ['newline', 'none']) ?? 'newline' };
}

function httpSink(section: Section): Pick<RouteConfig, 'url' | 'content_type' | 'headers'> {
  const text = section.string('url');
  if (text === undefined) section.fail('url', 'is missing; an http sink needs the URL to POST to');
  const url = URL.canParse(text) ? new URL(text) : section.fail('url', `${JSON.stringify(text)} is not a URL`);
  if (url.protocol === 'https:') {
    section.fail(
      'url',
      'https:// is not supported by this version; use an http:// URL, for example of a local TLS proxy',
    );
  }
  if (url.protocol !== 'http:') section.fail('url', `must start with http://, not ${url.protocol}//`);
  if (url.username !== '' || url.password !== '') {
    section.fail('url', 'must not hold a password; put an authorization field under headers');
  }
  if (url.hash !== '') section.fail('url', 'must not hold a #fragment; it would never be sent');
  const contentType = section.string('content_type') ?? 'application/octet-stream';
  if (!isFieldValue(contentType)) section.fail('content_type', 'must be printable ASCII');
  return { url: url.href, content_type: contentType, headers: headers(section) };
}

function headers(section: Section): Record<string, string> {
  const table = section.table('headers');
  const inner: Section = new Section(table, [...section.path, 'headers'], section.origin, Object.keys(table));
  const result: Record<string, string> = {};
  for (const name of Object.keys(table)) {
    const value = inner.string(name) as string;
    if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name)) inner.fail(name, 'is not a header name');
    if (OWN_HEADERS.includes(name.toLowerCase())) inner.fail(name, 'is set by the sink itself; remove it');
    if (name.toLowerCase() === 'content-type') inner.fail(name, 'has a key of its own: set content_type instead');
    if (!isFieldValue(value)) inner.fail(name, 'must be printable ASCII');
    result[name] = value;
  }
  return result;
}

/** Printable ASCII, so that no value can end its header field. */
function isFieldValue(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

function concurrency(section: Section, order: RouteConfig['order']): number {
  if (order === 'none') return section.integer('concurrency', 16, { min: 1, max: 1024 });
  const value = section.integer('concurrency', 1, { min: 1, max: 1024 });
  if (value > 1) section.fail('concurrency', 'contradicts order = "route" (one after the other); set order = "none"');
  return value;
}

function retry(section: Section): RouteConfig['retry'] {
  const inner: Section = section.section('retry', ['initial_ms', 'max_ms', 'max_attempts']);
  const initial = inner.integer('initial_ms', 100, { min: 1, max: U32_MAX });
  const max = inner.integer('max_ms', Math.max(30_000, initial), { min: 1, max: U32_MAX });
  if (max < initial) inner.fail('max_ms', `is ${max}, less than initial_ms (${initial}); raise it`);
  return { initial_ms: initial, max_ms: max, max_attempts: inner.integer('max_attempts', 0, { min: 0, max: U32_MAX }) };
}

/** 0 means: no limit of this kind. */
function retain(section: Section, segmentBytes: number): RouteConfig['retain'] {
  const inner: Section = section.section('retain', ['max_bytes', 'max_age_s']);
  const bytes = inner.integer('max_bytes', Math.max(GiB, segmentBytes), { min: 0, max: Number.MAX_SAFE_INTEGER });
  const age = inner.integer('max_age_s', 7 * 86_400, { min: 0, max: Number.MAX_SAFE_INTEGER });
  if (bytes !== 0 && bytes < segmentBytes) {
    inner.fail(
      'max_bytes',
      `is ${bytes}, less than one segment (segment_bytes = ${segmentBytes}); raise it, or 0 for no limit`,
    );
  }
  return { max_bytes: bytes || null, max_age_s: age || null };
}

function mirror(section: Section): Pick<RouteConfig, 'mirror'> {
  const path = section.string('mirror');
  if (path === undefined) return {};
  if (!isAbsolute(path)) section.fail('mirror', `${JSON.stringify(path)} is not an absolute path`);
  return { mirror: path };
}

/** Two routes that would write the same file, if there are any. */
export function sharedFile(
  routes: Record<string, RouteConfig>,
): { name: string; other: string; path: string } | undefined {
  const writers = new Map<string, string>();
  for (const [name, { path }] of Object.entries(routes)) {
    if (path === undefined) continue;
    const other = writers.get(path);
    if (other !== undefined) return { name, other, path };
    writers.set(path, name);
  }
  return undefined;
}
