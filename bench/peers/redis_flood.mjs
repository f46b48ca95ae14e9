// Redis at full tilt: several connections, each writing long pipelines of XADD without waiting for
// the replies one by one. Encoded by hand, so that the client is not what is measured.

import { once } from 'node:events';
import { connect } from 'node:net';
import { Numbered } from '../lib/payload.mjs';

const COMMANDS_PER_WRITE = 500;
const WRITES_OUTSTANDING = 8;
const DOLLAR = '$'.charCodeAt(0);
const LETTER = 'A'.charCodeAt(0);

/** One connection with a stream of its own, so that the order of its records can be checked. */
export class Flood {
  #socket;
  #stream;
  #numbered = new Numbered();

  static async open(path, stream) {
    const socket = connect({ path });
    await once(socket, 'connect');
    return new Flood(socket, stream);
  }

  constructor(socket, stream) {
    this.#socket = socket;
    this.#stream = stream;
  }

  /** Adds records for `seconds`; returns how many, once the last is acknowledged. */
  run(seconds) {
    const end = performance.now() + seconds * 1000;
    let sent = 0;
    let acknowledged = 0;
    return new Promise((resolve, reject) => {
      const fill = () => {
        while (performance.now() < end && sent - acknowledged < COMMANDS_PER_WRITE * WRITES_OUTSTANDING) {
          this.#socket.write(this.#commands());
          sent += COMMANDS_PER_WRITE;
        }
        if (acknowledged === sent) {
          this.#socket.off('data', take);
          resolve(sent);
        }
      };
      const take = (replies) => {
        // Each reply is a bulk string that holds an entry's number: digits and a hyphen. Errors have letters.
        for (const byte of replies) {
          if (byte === DOLLAR) acknowledged += 1;
          else if (byte >= LETTER) return reject(new Error(`redis: ${replies.toString('latin1').slice(0, 200)}`));
        }
        fill();
      };
      this.#socket.on('data', take);
      this.#socket.once('error', reject);
      fill();
    });
  }

  /** Checks the stream, then empties it: memory is bounded, and each round begins alike. */
  async verify(client, entriesOf) {
    await this.#numbered.verify(`redis, ${this.#stream}`, entriesOf(this.#stream));
    await client.del(this.#stream);
    this.#numbered = new Numbered();
  }

  close() {
    this.#socket.destroy();
  }

  #commands() {
    const head = Buffer.from(
      `*5\r\n$4\r\nXADD\r\n$${this.#stream.length}\r\n${this.#stream}\r\n$1\r\n*\r\n$1\r\np\r\n$128\r\n`,
    );
    const end = Buffer.from('\r\n');
    const parts = [];
    for (let command = 0; command < COMMANDS_PER_WRITE; command += 1) parts.push(head, this.#numbered.next(), end);
    return Buffer.concat(parts);
  }
}
