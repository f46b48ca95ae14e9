// Several producer processes (producer.mjs), each with a journal of its own, that are killed, stopped and replaced. A
// replacement has the next incarnation.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PRODUCER = path.join(path.dirname(fileURLToPath(import.meta.url)), '../producer.mjs');

export class ProducerPool {
  #members = new Map();
  journals = [];
  unexpected = [];

  /** `awaits`: how often (0 to 1) a producer waits for an acknowledgement before it sends more. */
  constructor(sandbox, { routes, rate, bytes, seed, awaits, env }) {
    Object.assign(this, { sandbox, routes, rate, bytes, seed, awaits, env });
  }

  get numbers() {
    return [...this.#members.keys()];
  }

  /** Starts producer `number` in its next incarnation. */
  start(number, env = {}) {
    const incarnation = (this.#members.get(number)?.incarnation ?? 0) + 1;
    const journal = this.sandbox.path(`producer-${number}-${incarnation}.journal`);
    this.journals.push(journal);
    const settings = {
      producer: number,
      incarnation,
      journal,
      routes: this.routes,
      rate: this.rate,
      bytes: this.bytes,
      seed: this.seed,
      awaits: this.awaits,
    };
    const child = this.sandbox.spawn(process.execPath, [PRODUCER, JSON.stringify(settings)], {
      log: `producer-${number}.log`,
      env: { ...this.env, ...env },
    });
    const member = { child, incarnation, expected: false, journal };
    this.#members.set(number, member);
    child.ended.then(({ code, signal }) => {
      if (!member.expected)
        this.unexpected.push(
          `producer ${number} ended (${signal ?? `exit ${code}`}):\n${this.sandbox.tailOf(`producer-${number}.log`)}`,
        );
    });
    return child;
  }

  /** Announces that a producer will die of itself, at a kill site. */
  expectDeath(number) {
    this.#members.get(number).expected = true;
    return this.#members.get(number).child.ended;
  }

  async kill(number) {
    const { child } = this.#members.get(number);
    const ended = this.expectDeath(number);
    child.kill('SIGKILL');
    await ended;
  }

  signal(number, signal) {
    this.#members.get(number).child.kill(signal);
  }

  /** The first producer that ended when it should not have; undefined while all is well. */
  deathReason() {
    return this.unexpected[0];
  }

  /** Lets all producers get the outcome of what they sent. Returns what went wrong, if anything. */
  async finish(timeoutMs = 30_000) {
    const alive = [...this.#members.values()].filter(
      ({ child }) => child.exitCode === null && child.signalCode === null,
    );
    const late = [];
    await Promise.all(
      alive.map(async (member) => {
        member.expected = true;
        member.child.kill('SIGCONT');
        member.child.kill('SIGTERM');
        const timer = setTimeout(() => {
          late.push(`${path.basename(member.journal)}: still waiting for outcomes after ${timeoutMs} ms`);
          member.child.kill('SIGKILL');
        }, timeoutMs);
        const { code, signal } = await member.child.ended;
        clearTimeout(timer);
        // Ended before it could listen for SIGTERM: it has sent nothing either.
        const unborn = signal === 'SIGTERM' && !fs.existsSync(member.journal);
        if (code !== 0 && signal !== 'SIGKILL' && !unborn)
          late.push(`${path.basename(member.journal)}: exit ${code ?? signal}`);
      }),
    );
    return [...this.unexpected, ...late];
  }
}
