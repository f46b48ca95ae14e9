// `elgate put`: lines of a file or of standard input become records of a route.

import { createReadStream } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Command, Option } from 'commander';
import { callControl } from '../../control/client.js';
import { ElgateError, guardAsync, messageOf } from '../../errors.js';
import { PAYLOAD_BYTES_MAX, slotBytes } from '../../library/limits.js';
import { Packer, packAlone } from '../../library/packer.js';
import type { Level } from '../../library/types.js';
import type { EngineStatus } from '../../native/binding.js';
import { binding } from '../../native/load.js';
import { checkStandardInput } from '../input.js';
import { LineSplitter, LineTooLong } from '../lines.js';
import { configFor, controlFor, routeName, type WhereOptions, withFlags } from '../locate.js';
import { count, oneLine, parseSeconds, print, printJson } from '../output.js';
import { checkLevel, checkLost, viewRoute } from '../put-route.js';
import { PutSession } from '../put-session.js';

const READ_BYTES = 256 * 1024;
const PROGRESS_MS = 100;
/** How long nothing moves before the daemon is asked why. */
const TROUBLE_MS = 1_000;

interface PutOptions extends WhereOptions {
  wait: Level;
  timeout: number;
  json?: boolean;
}

export function putCommand(): Command {
  const command = new Command('put')
    .description('hand lines of FILE or standard input to the daemon, and wait until they are safe')
    .argument('<route>', 'the route to append to')
    .argument('[file]', 'what to read; - or nothing is standard input')
    .addOption(
      new Option('--wait <level>', 'the level to wait for')
        .choices(['accepted', 'durable', 'delivered'])
        .default('durable'),
    )
    .option('--timeout <seconds>', 'give up when nothing moves for so long', parseSeconds('--timeout'), 60)
    .option('--json', 'end with one JSON object')
    .action(put);
  return withFlags(command, 'config', 'ring', 'admin');
}

async function put(route: string, file: string | undefined, options: PutOptions): Promise<void> {
  routeName(route);
  if (readsStandardInput(file)) checkStandardInput();
  const { path: ring } = configFor(options).ring;
  const client = await guardAsync(() => binding().NativeClient.connect(ring, 0));
  if (!client.daemonAlive()) {
    client.close();
    throw new ElgateError(
      'ERR_ELGATE_DAEMON_UNAVAILABLE',
      `no daemon serves the ring ${ring}: start it with \`npx elgate serve\`, or name its ring with --ring or ELGATE_RING`,
    );
  }
  const view = () => viewRoute(controlFor(options), client.dataDir(), route);
  const before = options.wait === 'accepted' ? undefined : await view();
  try {
    checkLevel(route, options.wait, before);
  } catch (error) {
    client.close();
    throw error;
  }
  const session = new PutSession(client, route, options.wait, options.timeout * 1000);
  const started = performance.now();
  const progress = showProgress(session, started);
  const trouble = watchTrouble(session, options);
  try {
    await feed(session, file);
    if (options.wait === 'delivered' && session.sent > 0) checkLost(route, before, await view());
  } finally {
    clearInterval(trouble);
    progress();
    report(session, (performance.now() - started) / 1000, options.json ?? false);
    session.close();
  }
}

/** Reads to the end, and waits until everything has reached the level. */
async function feed(session: PutSession, file: string | undefined): Promise<void> {
  const splitter = new LineSplitter(PAYLOAD_BYTES_MAX);
  const packer = new Packer(slotBytes(session.routeName));
  const flush = async () => {
    if (packer.count === 0) return;
    const group = packer.copy();
    const { count: records } = packer;
    packer.clear();
    await session.send(group, records);
  };
  const add = async (line: Buffer) => {
    if (packer.add(line)) return;
    await flush();
    if (packer.add(line)) return;
    const alone = packAlone(line);
    await session.send(alone.buffer, 1);
  };
  try {
    for await (const chunk of input(file)) {
      for (const line of splitter.push(chunk)) {
        // Without a promise for each line: most of them only fill a slot.
        if (!packer.add(line)) await add(line);
      }
      await flush();
    }
    const last = splitter.end();
    if (last !== undefined) await add(last);
  } catch (error) {
    if (!(error instanceof LineTooLong)) throw error;
    await flush();
    await session.finish();
    const what = `${file ?? 'standard input'}: ${error.message}, the most that one record holds`;
    const before = session.acked === 1 ? 'the line before it is' : `the ${count(session.acked)} lines before it are`;
    throw new ElgateError(
      'ERR_ELGATE_PAYLOAD_TOO_LARGE',
      `${what}: ${before} ${session.level}, it and all that follow were not sent; split it`,
    );
  }
  await flush();
  await session.finish();
}

function readsStandardInput(file: string | undefined): boolean {
  return file === undefined || file === '-';
}

async function* input(file: string | undefined): AsyncGenerator<Buffer> {
  const stream =
    file === undefined || readsStandardInput(file)
      ? process.stdin
      : createReadStream(file, { highWaterMark: READ_BYTES });
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (error) {
    throw new ElgateError('ERR_ELGATE_IO', `cannot read ${file ?? 'standard input'}: ${messageOf(error)}`);
  }
}

/** Says once why nothing moves, if the daemon can tell. */
function watchTrouble(session: PutSession, options: PutOptions): NodeJS.Timeout {
  let before = session.acked;
  let told = '';
  const look = async () => {
    const { acked, sent, routeName } = session;
    const moves = acked > before || acked === sent;
    before = acked;
    if (moves) return;
    const { routes } = await callControl<EngineStatus>(controlFor(options), 'GET', '/status');
    const found = routes.find(({ name }) => name === routeName);
    const error = found?.last_error;
    if (!error || (found.state !== 'failed' && found.state !== 'parked') || error.message === told) return;
    told = error.message;
    process.stderr.write(`elgate: waiting: route ${routeName} is ${found.state}: ${oneLine(told)} [${error.code}]\n`);
  };
  // Where the control API does not answer, the timeout says what there is to say.
  return setInterval(() => void look().catch(() => {}), TROUBLE_MS);
}

/** A line on the terminal that is written over; answers how to end it. */
function showProgress(session: PutSession, started: number): () => void {
  if (!process.stderr.isTTY) return () => {};
  const timer = setInterval(() => {
    const rate = session.acked / ((performance.now() - started) / 1000);
    process.stderr.write(
      `\r\x1b[K${session.routeName}: ${count(session.acked)} ${session.level}, ${count(Math.round(rate))}/s`,
    );
  }, PROGRESS_MS);
  return () => {
    clearInterval(timer);
    process.stderr.write('\r\x1b[K');
  };
}

function report(session: PutSession, seconds: number, json: boolean): void {
  const { routeName: route, sent, acked, level } = session;
  const p50_us = session.percentileUs(50);
  const p99_us = session.percentileUs(99);
  if (json) {
    printJson({ route, sent, acked, level, seconds: Number(seconds.toFixed(6)), p50_us, p99_us });
    return;
  }
  const of = acked === sent ? '' : ` of ${count(sent)}`;
  const records = sent === 1 ? 'record' : 'records';
  const latency = acked === 0 ? '' : ` (p50 ${p50_us} µs, p99 ${p99_us} µs)`;
  print(`${route}: ${count(acked)}${of} ${records} ${level} in ${seconds.toFixed(2)} s${latency}`);
}
