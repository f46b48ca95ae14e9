// A program that hands its records to the daemon (`npx elgate serve`), found by ELGATE_RING,
// elgate.toml here, or the defaults. The program may die; what it handed over is carried out.
//
//   node examples/connected.mjs

import { Elgate } from 'elgate';

const gate = await Elgate.connect();
const access = gate.route('access');
const receipts = await Promise.all(['GET /', 'GET /style.css', 'POST /cart'].map((line) => access.append(line)));
console.log(`durable: ${receipts.map(({ route, lsn }) => `${route}/${lsn}`).join(' ')}`);

try {
  await gate.route('no-such-route').append('x');
} catch (error) {
  console.log(`${error.code}: ${error.message}`);
}
await gate.close();
