// Who may call: a Host that is ours (so that no web page can reach us by rebinding a name), no foreign
// Origin, and the token for calls that change something.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { isLoopback } from '../config/listen.js';
import type { AdminConfig } from '../config/schema.js';
import { HttpError } from './respond.js';

/** Throws an {@link HttpError} if the request may not be served. */
export function checkAccess(request: IncomingMessage, admin: AdminConfig, mutating: boolean): void {
  const host = request.headers.host;
  const name = hostName(host);
  if (name === undefined || !isOurs(name, admin)) {
    const shown = JSON.stringify(host ?? '').slice(0, 120);
    throw denied(403, `the name ${shown} is not this listener's; use its address, or add the name to admin.hosts`);
  }
  const { origin } = request.headers;
  if (origin !== undefined && origin !== `http://${host}`) {
    throw denied(403, 'a web page of another origin may not call the control API');
  }
  if (mutating) checkToken(request, admin);
}

function hostName(host: string | undefined): string | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host ?? '');
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

/** An address cannot be rebound; a name must be one we were told. */
function isOurs(name: string, admin: AdminConfig): boolean {
  return (
    isIP(name) !== 0 || name === 'localhost' || [admin.host, ...admin.hosts].some((own) => own.toLowerCase() === name)
  );
}

function checkToken(request: IncomingMessage, admin: AdminConfig): void {
  if (admin.token === null) {
    if (isLoopback(admin.host)) return;
    throw denied(403, 'changes need a token when the listener is not loopback; set admin.token or ELGATE_ADMIN_TOKEN');
  }
  const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (given === undefined || !equal(given, admin.token)) {
    throw denied(401, 'send the admin token: authorization: Bearer TOKEN', { 'www-authenticate': 'Bearer' });
  }
}

/** Takes the same time wherever the two differ. */
function equal(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function denied(status: number, message: string, headers?: Record<string, string>): HttpError {
  return new HttpError(status, 'ERR_ELGATE_PERMISSION_DENIED', message, headers);
}
