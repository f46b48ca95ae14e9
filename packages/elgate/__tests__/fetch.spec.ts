import test from 'ava';
import { openFake } from './support/gate.js';

const URL_IN = 'http://far.test/in';
const routes = {
  hooks: { sink: 'http' as const, url: URL_IN, contentType: 'application/json', headers: { 'x-team': 'a' } },
};

test.serial('a POST to the URL of a route is answered 202 once durable', async (t) => {
  const { gate, machine } = await openFake(t, { routes });
  const response = await gate.fetch(URL_IN, {
    method: 'post',
    body: '{"n":1}',
    headers: { 'content-type': 'application/json', 'X-Team': 'a' },
  });
  t.is(response.status, 202);
  t.is(response.headers.get('Elgate-Op-Id'), 'hooks/1');
  t.is(response.headers.get('Elgate-Level'), 'durable');
  t.is(await response.text(), '');
  t.deepEqual(machine.ring.taken, [{ route: 'hooks', records: ['{"n":1}'] }]);
});

test.serial('bodies of bytes are taken as they are', async (t) => {
  const { gate, machine } = await openFake(t, { routes });
  const bytes = Uint8Array.of(0, 1, 255);
  for (const body of [bytes, bytes.buffer, new DataView(bytes.buffer, 1), new URLSearchParams('a=b'), null]) {
    await gate.fetch(new URL(URL_IN), { method: 'POST', body });
  }
  const taken = machine.ring.taken.flatMap(({ records }) => records);
  t.deepEqual(taken, ['\x00\x01\xff', '\x00\x01\xff', '\x01\xff', 'a=b', '']);
});

test.serial('what would be lost is refused, with the way out', async (t) => {
  const { gate, machine } = await openFake(t, { routes });
  const post = { method: 'POST', body: 'x' };
  const refused: [string, RequestInit, RegExp][] = [
    [URL_IN, {}, /GET .* is not durable/],
    [URL_IN, { ...post, headers: { authorization: 'secret' } }, /route hooks does not send authorization/],
    [URL_IN, { ...post, headers: { 'content-type': 'text/plain' } }, /content_type/],
    ['http://far.test/other', post, /no http route has the URL/],
    [URL_IN, { ...post, body: new FormData() }, /stream, form or blob/],
    [URL_IN, { ...post, body: new ReadableStream(), duplex: 'half' } as RequestInit, /stream, form or blob/],
  ];
  for (const [url, init, message] of refused) {
    await t.throwsAsync(gate.fetch(url, init), { code: 'ERR_ELGATE_UNSUPPORTED', message });
  }
  t.is(machine.ring.taken.length, 0);
});

test.serial('an aborted fetch rejects as fetch does', async (t) => {
  const { gate } = await openFake(t, { routes });
  await t.throwsAsync(gate.fetch(URL_IN, { method: 'POST', signal: AbortSignal.abort() }), {
    any: true,
    name: 'AbortError',
  });
});
