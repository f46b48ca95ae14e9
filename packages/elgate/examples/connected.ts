// A consumer: follows a route's log with a name, so that the next run goes on after what this one has
// dealt with. Stops when nothing new is there.
//
//   npx tsx examples/connected.ts

import { Elgate, type LogRecord } from 'elgate';

async function bill(record: LogRecord): Promise<void> {
  console.log(`billing record ${record.lsn}: ${record.text()}`);
}

await using gate = await Elgate.connect({ waitMs: 1000 });
for await (const record of gate.tail('access', { reader: 'billing', follow: false })) {
  await bill(record);
  await record.commit();
}
