// Answers of the control API, and the errors that become answers.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { ElgateError, type ElgateErrorCode, toElgateError } from '../errors.js';

export interface Answer {
  status: number;
  body: unknown;
  /** Of a body that is text already. */
  contentType?: string;
  headers?: Record<string, string>;
}

export function json(body: unknown, status = 200): Answer {
  return { status, body };
}

/** A refusal with a status of its own. */
export class HttpError extends ElgateError {
  constructor(
    readonly status: number,
    code: ElgateErrorCode,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(code, message);
  }
}

const STATUS: Partial<Record<ElgateErrorCode, number>> = {
  ERR_ELGATE_CONFIG_INVALID: 400,
  ERR_ELGATE_ROUTE_NAME_INVALID: 400,
  ERR_ELGATE_USAGE: 400,
  ERR_ELGATE_PATH_OUTSIDE_ROOT: 400,
  ERR_ELGATE_PERMISSION_DENIED: 403,
  ERR_ELGATE_ROUTE_UNKNOWN: 404,
  ERR_ELGATE_IN_USE: 409,
  ERR_ELGATE_ROUTE_PAUSED: 409,
  ERR_ELGATE_PAYLOAD_TOO_LARGE: 413,
  ERR_ELGATE_UNSUPPORTED: 501,
  ERR_ELGATE_BACKPRESSURE: 503,
  ERR_ELGATE_DAEMON_UNAVAILABLE: 503,
  ERR_ELGATE_LOG_UNAVAILABLE: 503,
  ERR_ELGATE_TIMEOUT: 504,
};

/** Whatever was thrown, as an answer. */
export function failure(thrown: unknown): Answer {
  const error = toElgateError(thrown);
  const body = { error: { code: error.code, message: error.message, retryable: error.retryable } };
  if (error instanceof HttpError) return { status: error.status, body, headers: error.headers };
  return { status: STATUS[error.code] ?? 500, body };
}

export function send(response: ServerResponse, answer: Answer): void {
  const text = typeof answer.body === 'string' ? answer.body : `${JSON.stringify(answer.body)}\n`;
  response.writeHead(answer.status, {
    'content-type': answer.contentType ?? 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...answer.headers,
  });
  response.end(response.req.method === 'HEAD' ? undefined : text);
}

const BODY_BYTES_MAX = 256 * 1024;

/** The request's JSON object. */
export async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new HttpError(415, 'ERR_ELGATE_USAGE', 'send a JSON object with content-type: application/json');
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) {
      throw new HttpError(413, 'ERR_ELGATE_PAYLOAD_TOO_LARGE', `the body is over ${BODY_BYTES_MAX} bytes; send less`, {
        connection: 'close',
      });
    }
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new HttpError(400, 'ERR_ELGATE_USAGE', 'the body is not valid JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new HttpError(400, 'ERR_ELGATE_USAGE', 'the body must be a JSON object');
  }
  return value as Record<string, unknown>;
}
