// A real HTTP far end in a process of its own. Every receipt goes into its journal, outside the daemon's directories,
// before anything is answered:  <key or -> <sha1 of body> <id or -> <1 processed, 0 refused> <how it answered>
//
//   node receiver.mjs '{"journal":"…","port":0,"seed":1,"faults":{"error":0.01,…},"always":"silence"}'
//
// It prints {"port":…} when it listens. Faults, each a probability: error (500, 503, 429: nothing processed), slow
// (processed, answered late), drop_before (connection closed, nothing processed), drop_after (processed, then closed:
// the sender must send again), garbage (processed, answered with nonsense), cut (processed, the answer breaks off).
// `always` makes one behaviour the only one: "healthy", a status code, "garbage", "silence", "dribble", "endless".

import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { Random } from './lib/random.mjs';

const { journal, port, seed = 1, faults = {}, always } = JSON.parse(process.argv[2]);
const random = new Random(seed);
const file = fs.openSync(journal, 'a');

const record = (request, body, processed, how) => {
  const key = request.headers['idempotency-key'] ?? '-';
  const id = /^[A-Za-z]\d+\.\d+\.\d+(?= )/.exec(body.subarray(0, 64).toString('latin1'))?.[0] ?? '-';
  const hash = crypto.createHash('sha1').update(body).digest('hex');
  fs.writeSync(file, `${key.replace(/\s/g, '_')} ${hash} ${id} ${processed ? 1 : 0} ${how}\n`);
};

const end = (response, status, text = '') => {
  response.writeHead(status, { 'content-length': Buffer.byteLength(text) });
  response.end(text);
};

const BEHAVIOURS = {
  healthy: { processed: true, answer: (_request, response) => end(response, 200, 'taken') },
  error: { processed: false, answer: (_request, response) => end(response, random.pick([500, 503, 429]), 'later') },
  slow: { processed: true, answer: (_request, response) => setTimeout(() => end(response, 204), random.int(5, 60)) },
  drop_before: { processed: false, answer: (request) => request.socket.destroy() },
  drop_after: { processed: true, answer: (request) => request.socket.destroy() },
  garbage: {
    processed: true,
    answer: (request) => request.socket.end('\0\x16\x03ELEPHANT 200 \r\n\r\n\r\n'.repeat(3)),
  },
  cut: { processed: true, answer: (request) => request.socket.end('HTTP/1.1 200 OK\r\ncontent-le') },
  silence: { processed: false, answer: () => {} },
  dribble: { processed: false, answer: (request) => dribble(request.socket, 'HTTP/1.1 200 OK\r\nx-slow: ') },
  endless: {
    processed: false,
    answer: (request) => dribble(request.socket, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', 65_536),
  },
};

/** Sends a head that never ends, a byte at a time or in large pieces. */
function dribble(socket, start, piece = 1) {
  socket.write(start);
  const timer = setInterval(() => socket.write('x'.repeat(piece)), 50);
  socket.on('close', () => clearInterval(timer));
}

function choose() {
  if (always !== undefined) return BEHAVIOURS[always] ? always : 'status';
  let draw = random.next();
  for (const [how, probability] of Object.entries(faults)) {
    draw -= probability;
    if (draw < 0) return how;
  }
  return 'healthy';
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('error', () => {});
  request.on('end', () => {
    const how = choose();
    const behaviour = BEHAVIOURS[how] ?? {
      processed: Number(always) < 300,
      answer: () => end(response, Number(always), 'as told'),
    };
    record(request, Buffer.concat(chunks), behaviour.processed, BEHAVIOURS[how] ? how : always);
    behaviour.answer(request, response);
  });
});
server.on('clientError', (_error, socket) => socket.destroy());
server.keepAliveTimeout = 30_000;
server.listen(port ?? 0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
