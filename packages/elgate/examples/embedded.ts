// An engine inside this program: orders are durable before the shop says thank you, and a file
// outside gets them in order. Run it again: it goes on where it was.
//
//   npx tsx examples/embedded.ts

import { Elgate } from 'elgate';

await using gate = await Elgate.open({
  dataDir: 'orders-data',
  routes: { orders: { sink: 'file', path: 'orders.log', segmentBytes: 4 * 1024 * 1024 } },
});
const orders = gate.route('orders');

// Survives power loss from here on.
const receipt = await orders.append('one coffee');
console.log(`order ${receipt.lsn} is ${receipt.level}`);

// Many at once become durable together.
const group = await orders.appendMany(['two teas', 'one cake'], { wait: 'delivered' });
console.log(`orders ${group.firstLsn} to ${group.lsn} are ${group.level}`);

for await (const record of gate.tail('orders', { from: 'start', follow: false })) {
  console.log(`${record.lsn}: ${record.text()}`);
}
