// Collects what every phase found and says it twice: in words as it goes, and as one JSON object at the end.

const MARK = { passed: 'ok     ', failed: 'FAILED ', skipped: 'skipped' };

export class Report {
  phases = [];
  counts = { passed: 0, failed: 0, skipped: 0 };
  #phase;

  constructor(write = (line) => console.error(line)) {
    this.write = write;
  }

  begin(name) {
    this.#phase = { name, checks: [], figures: {} };
    this.phases.push(this.#phase);
    this.write(`\n${name}`);
  }

  /** One check: `detail` is the story if it failed, or what it showed if it passed and is worth a word. */
  check(title, passed, detail) {
    this.#add(title, passed ? 'passed' : 'failed', passed ? undefined : detail);
    return passed;
  }

  pass(title, detail) {
    this.#add(title, 'passed', detail);
  }

  fail(title, detail) {
    this.#add(title, 'failed', detail);
  }

  skip(title, reason) {
    this.#add(title, 'skipped', reason);
  }

  note(text) {
    this.write(`          ${text}`);
  }

  figures(values) {
    Object.assign(this.#phase.figures, values);
  }

  /** Takes over what another report found. */
  merge(other) {
    this.phases.push(...other.phases);
    for (const [outcome, count] of Object.entries(other.counts)) this.counts[outcome] += count;
  }

  get closing() {
    const { passed, failed, skipped } = this.counts;
    return `${passed} passed, ${failed} failed, ${skipped} skipped`;
  }

  #add(title, outcome, detail) {
    this.counts[outcome] += 1;
    this.#phase.checks.push({ title, outcome, detail });
    this.write(`  ${MARK[outcome]} ${title}${detail ? `: ${detail}` : ''}`);
  }
}
