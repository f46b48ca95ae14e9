// As fast as it goes: `post` only puts records into shared memory; false means "wait a moment".
//
//   node examples/embedded.mjs

import { Elgate } from 'elgate';

const gate = await Elgate.open({
  dataDir: 'events-data',
  routes: { events: { sink: 'none', segmentBytes: 4 * 1024 * 1024 } },
});
const events = gate.route('events');

for (let n = 1; n <= 10_000; n += 1) {
  while (!events.post(`event ${n}`)) await events.drained();
}

// A durable append after them: when it is there, so are they.
const last = await events.append('the last event');
console.log(`${last.lsn} events are ${last.level}`);
await gate.close();
