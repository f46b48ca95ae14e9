// `gate.fetch`: a POST whose URL is that of an http route is appended to the route's log; the
// answer is 202 once it is durable. Nothing that the route would not carry is dropped in silence.

import type { RouteConfig } from '../config/route-schema.js';
import { ElgateError } from '../errors.js';
import type { Route } from './route.js';
import type { Bytes } from './types.js';

export type HttpRoutes = Record<string, Pick<RouteConfig, 'sink' | 'url' | 'content_type' | 'headers'>>;

export interface FetchGate {
  route(name: string): Route;
  /** The routes as they are now. `refresh` asks anew. */
  routes(refresh: boolean): Promise<HttpRoutes>;
}

export async function durableFetch(gate: FetchGate, input: string | URL, init: RequestInit = {}): Promise<Response> {
  init.signal?.throwIfAborted();
  const method = (init.method ?? 'GET').toUpperCase();
  if (typeof input !== 'string' && !(input instanceof URL))
    throw unsupported('a Request object is not taken; pass URL and init');
  const url = new URL(input).href;
  if (method !== 'POST') throw unsupported(`${method} ${url} is not durable; only POST is`);
  const [name, config] = (await find(gate, url)) ?? [];
  if (name === undefined || config === undefined) {
    throw unsupported(`no http route has the URL ${url}; add one to the configuration`);
  }
  const body = bodyBytes(init.body);
  checkHeaders(name, config, new Headers(init.headers));
  const signal = init.signal ?? undefined;
  const receipt = await gate.route(name).append(body, signal === undefined ? {} : { signal });
  const headers = { 'Elgate-Op-Id': `${receipt.route}/${receipt.lsn}`, 'Elgate-Level': receipt.level };
  return new Response(null, { status: 202, headers });
}

async function find(gate: FetchGate, url: string): Promise<[string, HttpRoutes[string]] | undefined> {
  for (const refresh of [false, true]) {
    const routes = Object.entries(await gate.routes(refresh));
    const found = routes.find(([, route]) => route.sink === 'http' && route.url === url);
    if (found !== undefined) return found;
  }
  return undefined;
}

function bodyBytes(body: RequestInit['body']): Bytes {
  if (body === undefined || body === null) return '';
  if (typeof body === 'string' || body instanceof Uint8Array) return body;
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  if (body instanceof URLSearchParams) return body.toString();
  throw unsupported('a body that is a stream, form or blob is not durable; pass text or bytes');
}

/** Header fields come from the route's configuration; others would be lost. */
function checkHeaders(name: string, config: HttpRoutes[string], headers: Headers): void {
  const carried = new Headers(config.headers ?? {});
  carried.set('content-type', config.content_type ?? 'application/octet-stream');
  for (const [field, value] of headers) {
    if (carried.get(field) === value) continue;
    const key = field === 'content-type' ? 'content_type' : 'headers';
    throw unsupported(
      `route ${name} does not send ${field}: ${value}; set it under ${key} in the route's configuration`,
    );
  }
}

function unsupported(what: string): ElgateError {
  return new ElgateError('ERR_ELGATE_UNSUPPORTED', `fetch: ${what}, or use globalThis.fetch`);
}
