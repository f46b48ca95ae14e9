// What becomes of the daemon's routes, in lines for people: from one look at the status to the next, one
// line for each change, none for what stays.

import type { RouteError, RouteState, RouteStatus } from '../native/binding.js';
import { count, oneLine } from './output.js';

/** Looks at which a route has to run before its deliveries count as recovered: some far ends fail now and then. */
const RECOVERED_LOOKS = 5;

const IN_TROUBLE: readonly RouteState[] = ['retrying', 'stopped', 'parked', 'failed'];

/** What was told last. */
interface Told {
  state: RouteState;
  error: string;
  damage: string;
  lost: number;
  mirror: string;
  runningLooks: number;
}

const WELL: Told = { state: 'running', error: '', damage: '', lost: 0, mirror: '', runningLooks: 0 };

export class RouteWatch {
  #told = new Map<string, Told>();

  /** What to tell now. At the first look at a route: what is not well. */
  changes(routes: readonly RouteStatus[]): string[] {
    const before = this.#told;
    this.#told = new Map();
    return routes.flatMap((route) => {
      const told = { ...(before.get(route.name) ?? { ...WELL, state: firstState(route) }) };
      this.#told.set(route.name, told);
      // Some messages of the engine's begin with the name.
      const again = `: route ${route.name}: `;
      return changesOf(route, told).map((text) => oneLine(`route ${route.name}${text.replace(again, ': ')}`));
    });
  }
}

/** That somebody paused it is not worth a line at the start. */
function firstState({ state }: RouteStatus): RouteState {
  return state === 'paused' ? state : 'running';
}

/** Brings `told` up to date. */
function changesOf(route: RouteStatus, told: Told): string[] {
  const { last_error: error, lost_records: lost, mirror } = route;
  const damage = route.damage ?? null;
  const lines: string[] = [];
  // Told with the first line that it explains.
  let news = error !== null && keyOf(error) !== told.error ? `${error.message} [${error.code}]` : undefined;
  const isDamage = (it: typeof error) => it !== null && damage !== null && it.message === damage.message;

  const damageKey = damage === null ? '' : `${damage.at_us} ${damage.message}`;
  if (damageKey !== told.damage || lost > told.lost) {
    const found = damage === null ? '' : `: ${damage.message} [${damage.code}]`;
    const what = lost > told.lost ? lossOf(lost, told.lost) : 'damage';
    if (found !== '' || lost > told.lost) lines.push(`: ${what}${found}`);
    if (isDamage(error)) news = undefined;
  }
  if (stateChanged(route.state, told)) {
    if (IN_TROUBLE.includes(route.state)) {
      const why = news ?? (error === null || isDamage(error) ? undefined : `${error.message} [${error.code}]`);
      lines.push(` is ${route.state}${why === undefined ? '' : `: ${why}`}`);
      news = undefined;
    } else {
      lines.push(route.state === 'paused' ? ' is paused' : ` is running again (was ${told.state})`);
    }
    told.state = route.state;
  }
  if (news !== undefined) lines.push(`: ${news}`);
  const trouble = mirror?.trouble ?? '';
  if (trouble !== told.mirror) {
    if (trouble === '') lines.push(': the mirror is written again');
    else if (!lines.some((line) => line.includes(trouble))) lines.push(`: the mirror cannot be written: ${trouble}`);
  }
  Object.assign(told, { error: error === null ? '' : keyOf(error), damage: damageKey, lost, mirror: trouble });
  return lines;
}

function lossOf(lost: number, before: number): string {
  const more = lost - before;
  return `${count(more)} ${more === 1 ? 'record' : 'records'} lost${before > 0 ? `, ${count(lost)} in all` : ''}`;
}

function stateChanged(state: RouteState, told: Told): boolean {
  told.runningLooks = state === 'running' ? told.runningLooks + 1 : 0;
  if (state === told.state) return false;
  const mayFailAgain = told.state === 'retrying' && state === 'running';
  return !mayFailAgain || told.runningLooks >= RECOVERED_LOOKS;
}

/** The same for each attempt at the same thing. */
function keyOf({ code, message }: RouteError): string {
  return `${code} ${message.replace(/\b(record|attempt) \d+/g, '$1')}`;
}
