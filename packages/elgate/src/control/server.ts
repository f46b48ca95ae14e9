// The control API: JSON over HTTP. Finds the handler for a request, lets it answer, and turns every
// failure into `{ error: { code, message } }`.

import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatListen } from '../config/listen.js';
import { ElgateError, messageOf } from '../errors.js';
import { checkAccess } from './guard.js';
import * as handlers from './handlers.js';
import { Metrics } from './metrics.js';
import { type Answer, failure, HttpError, send } from './respond.js';
import type { ControlSubject } from './subject.js';

type Handler = (call: handlers.Call) => Promise<Answer>;

/** `:name` stands for one path segment. GET also answers HEAD. */
const CALLS: readonly [method: string, path: string, handler: Handler][] = [
  ['GET', '/status', handlers.status],
  ['GET', '/info', handlers.info],
  ['GET', '/metrics', handlers.metrics],
  ['GET', '/routes', handlers.listRoutes],
  ['POST', '/routes', handlers.addRoute],
  ['DELETE', '/routes/:name', handlers.removeRoute],
  ['POST', '/routes/:name/pause', handlers.pause],
  ['POST', '/routes/:name/resume', handlers.resume],
  ['POST', '/routes/:name/flush', handlers.flush],
  ['POST', '/routes/:name/replay', handlers.replay],
  ['GET', '/wal', handlers.allLogs],
  ['GET', '/wal/:name', handlers.oneLog],
  ['GET', '/healthz', handlers.healthz],
  ['GET', '/readyz', handlers.readyz],
];

const PATTERNS = CALLS.map(([method, path, handler]) => ({
  method,
  path,
  handler,
  pattern: new RegExp(`^${path.replace(':name', '([^/]+)')}$`),
}));

const REQUEST_TIMEOUT_MS = 10_000;

export class ControlServer {
  readonly #subject: ControlSubject;
  readonly #metrics = new Metrics();
  readonly #server: Server;

  constructor(subject: ControlSubject) {
    this.#subject = subject;
    this.#server = createServer(
      { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
      (request, response) => {
        this.#answer(request)
          .catch(failure)
          .then((answer) => send(response, answer))
          .catch(() => response.destroy());
      },
    );
  }

  /** Listens where the configuration says. Answers the port, which the system chose if it was 0. */
  async listen(): Promise<number> {
    const { host, port } = this.#subject.config.admin;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) =>
        reject(listenError(error, formatListen({ host, port }))),
      );
      this.#server.listen({ host, port, exclusive: true }, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const { admin } = this.#subject.config;
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
    checkAccess(request, admin, method !== 'GET');
    const path = pathOf(request);
    const matches = PATTERNS.filter(({ pattern }) => pattern.test(path));
    if (matches.length === 0) {
      const list = [...new Set(CALLS.map(([, known]) => known))].join(' ');
      throw new HttpError(404, 'ERR_ELGATE_USAGE', `there is no ${path.slice(0, 120)}; there are ${list}`);
    }
    const match = matches.find((candidate) => candidate.method === method);
    if (match === undefined) {
      const allow = matches.map((candidate) => candidate.method).join(', ');
      throw new HttpError(405, 'ERR_ELGATE_USAGE', `${matches[0]?.path} takes ${allow}, not ${method}`, { allow });
    }
    const name = match.pattern.exec(path)?.[1] ?? '';
    return match.handler({ subject: this.#subject, metrics: this.#metrics, request, name });
  }
}

function pathOf(request: IncomingMessage): string {
  const path = (request.url ?? '/').split('?', 1)[0] as string;
  try {
    return decodeURI(path);
  } catch {
    throw new HttpError(400, 'ERR_ELGATE_USAGE', 'the path is not valid percent-encoding');
  }
}

function listenError(error: NodeJS.ErrnoException, address: string): ElgateError {
  if (error.code === 'EADDRINUSE') {
    return new ElgateError(
      'ERR_ELGATE_ADDRESS_IN_USE',
      `another process listens on ${address}: choose another address with --admin or admin.listen, or stop that process`,
    );
  }
  if (error.code === 'EACCES') {
    return new ElgateError(
      'ERR_ELGATE_PERMISSION_DENIED',
      `this user may not listen on ${address}: choose a port above 1023`,
    );
  }
  return new ElgateError(
    'ERR_ELGATE_IO',
    `cannot listen on ${address}: ${messageOf(error)}; choose another with --admin`,
  );
}
