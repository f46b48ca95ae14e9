// Talks to a daemon's control API.

import { ElgateError, type ElgateErrorCode, messageOf } from '../errors.js';

export interface ControlTarget {
  /** The API's base URL. */
  url: string;
  token: string | null;
}

const TIMEOUT_MS = 30_000;

/** One call. Rejects with the API's own error, or `ERR_ELGATE_DAEMON_UNAVAILABLE` if nobody answers. */
export async function callControl<T>(target: ControlTarget, method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (target.token !== null) headers.authorization = `Bearer ${target.token}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  let text: string;
  try {
    response = await fetch(new URL(path, target.url), {
      method,
      headers,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (error) {
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    const reason = cause?.code ?? cause?.message ?? messageOf(error);
    throw new ElgateError(
      'ERR_ELGATE_DAEMON_UNAVAILABLE',
      `no daemon answers at ${target.url} (${reason}): start it with \`npx elgate serve\`, or name it with --admin or ELGATE_ADMIN`,
      { cause: error },
    );
  }
  const answer = parse(text);
  if (response.ok && answer !== undefined) return answer as T;
  const failure = (answer as { error?: { code?: ElgateErrorCode; message?: string } } | undefined)?.error;
  if (failure?.code !== undefined && failure.message !== undefined) {
    throw new ElgateError(failure.code, failure.message);
  }
  throw new ElgateError(
    'ERR_ELGATE_DAEMON_UNAVAILABLE',
    `${target.url} answered ${response.status}, but not as an Elgate daemon does: name the daemon with --admin or ELGATE_ADMIN`,
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
