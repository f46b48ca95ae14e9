// One producer process: appends records that carry their own identity, and writes into its oracle journal what it is
// about to do before it does it, and what came of it before it goes on. It may be killed or stopped at any point.
//
//   node producer.mjs '{"producer":1,"incarnation":1,"journal":"…","routes":["a"],"rate":500,"bytes":[60,4000],"seed":1}'
//
// Payload:  p<producer>.<incarnation>.<sequence> <sha1 of the rest, 16 digits> <filler>
// Journal:  <ns> i <route> <id> <sha1 of the payload>      about to be sent
//           <ns> o <route> <id> <lsn> <level>              acknowledged
//           <ns> f <route> <id> <code>                     failed for certain: was never taken
//           <ns> u <route> <id> <code>                     outcome unknown
// SIGTERM: sends no more, waits for the outcome of what it sent, writes "<ns> end", exits 0.

import crypto from 'node:crypto';
import fs from 'node:fs';
import { Elgate } from 'elgate';
import { Random } from './lib/random.mjs';
import { sleep } from './lib/wait.mjs';

/** These say that the operation was not taken. Every other failure leaves the outcome open. */
const DEFINITE = new Set(['ERR_ELGATE_PAYLOAD_TOO_LARGE', 'ERR_ELGATE_ROUTE_UNKNOWN', 'ERR_ELGATE_BACKPRESSURE']);
const OUTSTANDING_MAX = 256;
const TOO_LARGE_BYTES = 1_000_001;

const { producer, incarnation, journal, routes, rate, bytes, seed, awaits = 0.1 } = JSON.parse(process.argv[2]);
const random = new Random(seed).fork(`${producer}.${incarnation}`);
const file = fs.openSync(journal, 'a');
const note = (line) => fs.writeSync(file, `${process.hrtime.bigint()} ${line}\n`);

const filler = crypto.createHash('sha1').update(`${seed}.${producer}`).digest('hex').repeat(2_000);

function payload(id, size) {
  const start = random.int(0, 40);
  const rest = filler.slice(start, start + size);
  const sum = crypto.createHash('sha1').update(rest).digest('hex').slice(0, 16);
  return Buffer.from(`${id} ${sum} ${rest}`);
}

let stopping = false;
process.on('SIGTERM', () => (stopping = true));

// It may be started while the daemon is dead.
const gate = await Elgate.connect({ waitMs: 20_000 });
const handles = new Map(routes.map((route) => [route, gate.route(route)]));
let sequence = 0;
let outstanding = 0;

function send(route, body, id) {
  outstanding += 1;
  return handles
    .get(route)
    .append(body)
    .then(
      (receipt) => note(`o ${route} ${id} ${receipt.lsn} ${receipt.level}`),
      (error) => note(`${DEFINITE.has(error.code) ? 'f' : 'u'} ${route} ${id} ${error.code ?? error.name}`),
    )
    .finally(() => (outstanding -= 1));
}

const started = process.hrtime.bigint();
const due = () => (Number(process.hrtime.bigint() - started) / 1e9) * rate;

while (!stopping) {
  while (!stopping && sequence < due() && outstanding < OUTSTANDING_MAX) {
    const route = random.pick(routes);
    const burst = [];
    for (let size = random.int(1, 8); size > 0; size -= 1) {
      sequence += 1;
      const id = `p${producer}.${incarnation}.${sequence}`;
      const body = random.chance(0.002) ? Buffer.alloc(TOO_LARGE_BYTES, 'x') : payload(id, random.int(...bytes));
      burst.push({ id, body });
    }
    for (const { id, body } of burst) {
      note(`i ${route} ${id} ${crypto.createHash('sha1').update(body).digest('hex')}`);
    }
    const last = burst.map(({ id, body }) => send(route, body, id)).at(-1);
    // Now and then wait for the acknowledgement before sending more: "acknowledged before sent" needs such pairs.
    if (random.chance(awaits)) await last;
  }
  await sleep(1);
}

while (outstanding > 0) await sleep(1);
await gate.close();
note('end');
process.exit(0);
