// "HOST:PORT", both ways.

import { isIPv6 } from 'node:net';

export interface Listen {
  host: string;
  port: number;
}

/** `undefined` if the text is not HOST:PORT. An IPv6 address stands in brackets. */
export function parseListen(text: string): Listen | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain, digits] = match;
  const port = Number(digits);
  if (port > 65_535 || (bracketed !== undefined && !isIPv6(bracketed))) return undefined;
  return { host: (bracketed ?? plain) as string, port };
}

export function formatListen({ host, port }: Listen): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
