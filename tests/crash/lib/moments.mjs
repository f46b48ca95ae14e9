// Which faults landed while data flowed, told afterwards from the oracle journals: exact, and without disturbing the run.

const FLOWING_NS = 50_000_000n;

/**
 * `faults` are { at (ns), producer? } in order of time; `events` the journals' events in order of time. A fault counts
 * when something (of that producer, if it names one) had been sent and not come through at that moment, or an event
 * of its own happened in the 50 ms before it.
 */
export function landedInFlow(faults, events) {
  const open = new Map(); // producer -> ids without an outcome
  const latest = new Map(); // producer -> time of its latest event
  let next = 0;
  let landed = 0;
  const producerOf = (id) => Number(/^p(\d+)/.exec(id)[1]);
  for (const fault of [...faults].sort((a, b) => (a.at < b.at ? -1 : 1))) {
    for (; next < events.length && events[next].at <= fault.at; next += 1) {
      const event = events[next];
      const producer = producerOf(event.id);
      if (!open.has(producer)) open.set(producer, new Set());
      if (event.type === 'invoke') open.get(producer).add(event.id);
      else open.get(producer).delete(event.id);
      latest.set(producer, event.at);
    }
    const involved = fault.producer === undefined ? [...open.keys()] : [fault.producer];
    if (
      involved.some((producer) => open.get(producer)?.size > 0 || fault.at - (latest.get(producer) ?? 0n) < FLOWING_NS)
    )
      landed += 1;
  }
  return landed;
}

export const moment = () => process.hrtime.bigint();
