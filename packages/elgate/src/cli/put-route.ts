// What the daemon's control API says about the route of an `elgate put`, where it answers.

import { type ControlTarget, callControl } from '../control/client.js';
import { ElgateError } from '../errors.js';
import type { Level } from '../library/types.js';
import type { EngineStatus } from '../native/binding.js';
import { count } from './output.js';

/** Nobody is kept waiting for long by an API that hangs. */
const ANSWER_MS = 2_000;

export interface RouteView {
  flush: string;
  /** Since this daemon started. */
  lostRecords: number;
  pid: number;
}

/** Nothing where the API does not answer, is another daemon's, or does not know the route. */
export async function viewRoute(target: ControlTarget, dataDir: string, route: string): Promise<RouteView | undefined> {
  try {
    const ask = <T>(path: string) => callControl<T>(target, 'GET', path, undefined, ANSWER_MS);
    const [status, { routes }] = await Promise.all([
      ask<EngineStatus & { pid: number }>('/status'),
      ask<{ routes: { name: string; flush: string }[] }>('/routes'),
    ]);
    const configured = routes.find(({ name }) => name === route);
    const live = status.routes.find(({ name }) => name === route);
    if (status.data_dir !== dataDir || configured === undefined || live === undefined) return undefined;
    return { flush: configured.flush, lostRecords: live.lost_records, pid: status.pid };
  } catch {
    return undefined;
  }
}

/** Throws, before anything is sent, if the route never says more than accepted. */
export function checkLevel(route: string, level: Level, view: RouteView | undefined): void {
  if (level === 'accepted' || view === undefined || view.flush === 'auto') return;
  throw new ElgateError(
    'ERR_ELGATE_UNSUPPORTED',
    `route ${route} has flush = "${view.flush}": its records are accepted, not durable; nothing was sent, use --wait accepted`,
  );
}

/** Throws if records of the route were lost between two views: a watermark passes over those, too. */
export function checkLost(route: string, before: RouteView | undefined, after: RouteView | undefined): void {
  if (before === undefined || after === undefined) return;
  const lost = after.lostRecords - (after.pid === before.pid ? before.lostRecords : 0);
  if (lost <= 0) return;
  const [records, were] = lost === 1 ? ['record', 'was'] : ['records', 'were'];
  throw new ElgateError(
    'ERR_ELGATE_LOG_CORRUPT',
    `route ${route}: ${count(lost)} ${records} ${were} lost meanwhile to damage of its log, and some of those sent may be ` +
      'among them; see `elgate status`, and what the sink has',
  );
}
