// Talks to a daemon's control API.

import { request } from 'node:http';
import { ElgateError, type ElgateErrorCode, messageOf } from '../errors.js';

export interface ControlTarget {
  /** The API's base URL. */
  url: string;
  token: string | null;
}

const TIMEOUT_MS = 30_000;

/** One call. Rejects with the API's own error, or `ERR_ELGATE_DAEMON_UNAVAILABLE` if nobody answers. */
export async function callControl<T>(
  target: ControlTarget,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  let response: { status: number; text: string };
  try {
    response = await exchange(target, method, path, body === undefined ? undefined : JSON.stringify(body), timeoutMs);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? messageOf(error);
    throw new ElgateError(
      'ERR_ELGATE_DAEMON_UNAVAILABLE',
      `no daemon answers at ${target.url} (${reason}): start it with \`npx elgate serve\`, or name it with --admin or ELGATE_ADMIN`,
      { cause: error },
    );
  }
  const { status, text } = response;
  const answer = parse(text);
  if (status >= 200 && status < 300 && answer !== undefined) return answer as T;
  const failure = (answer as { error?: { code?: ElgateErrorCode; message?: string } } | undefined)?.error;
  if (failure?.code !== undefined && failure.message !== undefined) {
    throw new ElgateError(failure.code, failure.message);
  }
  throw new ElgateError(
    'ERR_ELGATE_DAEMON_UNAVAILABLE',
    `${target.url} answered ${status}, but not as an Elgate daemon does: name the daemon with --admin or ELGATE_ADMIN`,
  );
}

/** By `node:http`: `fetch` refuses some ports that a daemon may well listen on. */
function exchange(
  target: ControlTarget,
  method: string,
  path: string,
  body: string | undefined,
  timeoutMs: number,
): Promise<{ status: number; text: string }> {
  const headers: Record<string, string | number> = { accept: 'application/json' };
  if (target.token !== null) headers.authorization = `Bearer ${target.token}`;
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = Buffer.byteLength(body);
  }
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const outgoing = request(new URL(path, target.url), { method, headers, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
