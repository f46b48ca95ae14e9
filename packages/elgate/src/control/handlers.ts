// One function per call of the control API.

import type { IncomingMessage } from 'node:http';
import { arch, loadavg, release, type as system } from 'node:os';
import { join } from 'node:path';
import { adminUrl, isRouteName, ROUTE_NAME_RULE } from '../config/schema.js';
import { ElgateError, guard, guardAsync } from '../errors.js';
import type { BuildInfo, EngineStatus, LogDescription } from '../native/binding.js';
import { binding } from '../native/load.js';
import type { Metrics } from './metrics.js';
import { residentBytes } from './resident.js';
import { type Answer, json, readJson } from './respond.js';
import type { ControlSubject, ServedRoute } from './subject.js';

export interface Call {
  subject: ControlSubject;
  metrics: Metrics;
  request: IncomingMessage;
  /** The `:name` of the path, empty where it has none. */
  name: string;
}

/** The engine's own account of itself. */
export function engineStatus(subject: ControlSubject): EngineStatus {
  return JSON.parse(guard(() => subject.engine().status())) as EngineStatus;
}

/** The version that runs. */
export function buildInfo(): BuildInfo {
  return JSON.parse(binding().buildInfo()) as BuildInfo;
}

export async function status({ subject }: Call): Promise<Answer> {
  const { config } = subject;
  const engine = engineStatus(subject);
  return json({
    phase: subject.phase,
    pid: process.pid,
    config: config.file,
    admin: adminUrl(config.admin),
    build: buildInfo(),
    load_average: loadavg(),
    ...engine,
    memory: [...engine.memory, ...wholeProcess()],
  });
}

function wholeProcess(): EngineStatus['memory'] {
  const bytes = residentBytes();
  const why = 'resident in all: Node.js with its heap and code, and of the above what has been touched';
  return bytes === undefined ? [] : [{ what: 'process', bytes, why }];
}

export async function info({ subject }: Call): Promise<Answer> {
  const { mode, cores, numa_nodes, io, shards } = engineStatus(subject);
  return json({
    build: buildInfo(),
    node: process.version,
    system: { name: system(), release: release(), arch: arch(), cores, numa_nodes },
    mode,
    io,
    shards: shards.map(({ index, pinned_core, backend, facts }) => ({ index, pinned_core, backend, facts })),
    ring: subject.engine().ringPath(),
    data_dir: subject.config.dataDir,
  });
}

export async function metrics({ subject, metrics }: Call): Promise<Answer> {
  return { status: 200, body: await metrics.render(engineStatus(subject)), contentType: metrics.contentType };
}

export async function listRoutes({ subject }: Call): Promise<Answer> {
  const live = new Map(engineStatus(subject).routes.map((route) => [route.name, route]));
  const routes = subject.routes().map((route) => {
    const now = live.get(route.name);
    return {
      name: route.name,
      source: route.source,
      state: now?.state ?? null,
      durable_lsn: now?.durable_lsn ?? 0,
      delivered_lsn: now?.delivered_lsn ?? 0,
      lag_records: now?.lag_records ?? 0,
      ...withoutSecrets(route),
    };
  });
  return json({ routes });
}

/** Header fields often hold credentials. Readers need no token, so they see only the names. */
function withoutSecrets({ config }: ServedRoute): object {
  if (config.headers === undefined) return config;
  return { ...config, headers: Object.fromEntries(Object.keys(config.headers).map((name) => [name, '(hidden)'])) };
}

export async function addRoute({ subject, request }: Call): Promise<Answer> {
  const { name, ...settings } = await readJson(request);
  if (typeof name !== 'string' || !isRouteName(name)) {
    throw new ElgateError(
      'ERR_ELGATE_ROUTE_NAME_INVALID',
      `name: ${JSON.stringify(name)} is not a route name; ${ROUTE_NAME_RULE}`,
    );
  }
  const changes = await subject.addRoute(name, settings);
  return json({ name, changes }, changes.added.includes(name) ? 201 : 200);
}

export async function removeRoute({ subject, name }: Call): Promise<Answer> {
  // Asked before: afterwards the engine no longer knows the route.
  const live = engineStatus(subject).routes.find((route) => route.name === name);
  const changes = await subject.removeRoute(name);
  const log = join(subject.config.dataDir, name);
  return json({ name, changes, undelivered_records: live?.lag_records ?? 0, log });
}

export async function pause(call: Call): Promise<Answer> {
  const route = known(call);
  await guardAsync(() => call.subject.engine().pause(route));
  return json({ name: route, paused: true });
}

export async function resume(call: Call): Promise<Answer> {
  const route = known(call);
  await guardAsync(() => call.subject.engine().resume(route));
  return json({ name: route, paused: false });
}

export async function flush(call: Call): Promise<Answer> {
  const route = known(call);
  await guardAsync(() => call.subject.engine().flush(route));
  return json({ name: route, flushed: true });
}

export async function replay(call: Call): Promise<Answer> {
  const route = known(call);
  throw new ElgateError(
    'ERR_ELGATE_UNSUPPORTED',
    `route ${route}: this version cannot deliver records again by itself; read them with \`elgate tail ${route} --from LSN\``,
  );
}

export async function allLogs({ subject }: Call): Promise<Answer> {
  return json({ routes: subject.routes().map(({ name }) => ({ name, ...describe(subject, name) })) });
}

export async function oneLog(call: Call): Promise<Answer> {
  const route = known(call);
  return json({ name: route, ...describe(call.subject, route) });
}

function describe(subject: ControlSubject, route: string): LogDescription {
  return JSON.parse(guard(() => binding().describeLog(join(subject.config.dataDir, route)))) as LogDescription;
}

/** The process answers, whatever its routes do. */
export async function healthz({ subject }: Call): Promise<Answer> {
  return json({ status: 'ok', phase: subject.phase });
}

/** Records are taken. A route that is parked, stopped or failed does not make the others unready. */
export async function readyz({ subject }: Call): Promise<Answer> {
  const ready = subject.phase === 'running';
  return json({ status: ready ? 'ready' : 'not ready', phase: subject.phase }, ready ? 200 : 503);
}

function known({ subject, name }: Call): string {
  if (subject.routes().some((route) => route.name === name)) return name;
  throw unknownRoute(subject, name);
}

/** The error for a route that does not exist, naming those that do. */
export function unknownRoute(subject: ControlSubject, name: string): ElgateError {
  const names = subject.routes().map((route) => route.name);
  const list = names.length > 0 ? `there are: ${names.slice(0, 20).join(', ')}` : 'there are none yet';
  return new ElgateError('ERR_ELGATE_ROUTE_UNKNOWN', `there is no route ${JSON.stringify(name)}; ${list}`);
}
