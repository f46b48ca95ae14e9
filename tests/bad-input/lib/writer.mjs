// The library in a process of its own, told what to do by a list of steps: [{ route, text } | { route, bytes }].
// Each step is one append, awaited together at the end; prints a JSON list of { lsn, level } or { code, message, retryable }.

import { Elgate } from 'elgate';
import { sleep } from '../../crash/lib/wait.mjs';

const steps = JSON.parse(process.argv[2]);

const outcome = (promise) =>
  promise.then(
    ({ lsn, level }) => ({ lsn: Number(lsn), level }),
    ({ code, message, retryable, name }) => ({ code, message, retryable, name }),
  );

try {
  const gate = await Elgate.connect();
  const outcomes = [];
  for (const { route, text, bytes } of steps) {
    const attempt = async () => gate.route(route).append(text ?? Buffer.alloc(bytes, 'x'));
    outcomes.push(outcome(attempt()));
    // A turn of the event loop each, so that every append is a submission of its own.
    await sleep(20);
  }
  console.error('submitted');
  console.log(JSON.stringify(await Promise.all(outcomes)));
  await gate.close();
} catch (error) {
  console.log(
    JSON.stringify([{ code: error.code, message: error.message, retryable: error.retryable, name: error.name }]),
  );
}
process.exit(0);
