// A result as a table for people.

const UNITS = { us: 'µs', ns: 'ns', mb_s: 'MB/s', per_s: '/s' };

function show(name, value) {
  const unit = Object.keys(UNITS).find((suffix) => name.endsWith(`_${suffix}`));
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const number = value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
  if (name.includes('_over_')) return `${number} x`;
  return unit ? `${number} ${UNITS[unit]}` : number;
}

/** @param {object} result the object that `--json` prints */
export function table({ case: name, machine, metrics, floor, peers, rounds }) {
  const rows = [['', 'figure', 'median']];
  const section = (title, figures) => {
    for (const [index, [figure, value]] of Object.entries(figures).entries()) {
      rows.push([index === 0 ? title : '', figure, show(figure, value)]);
    }
  };
  section('elgate', metrics);
  section('floor', floor);
  for (const [peer, figures] of Object.entries(peers)) section(peer, figures);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => `| ${row[0].padEnd(widths[0])} | ${row[1].padEnd(widths[1])} | ${row[2].padStart(widths[2])} |`;
  const rule = `|${'-'.repeat(widths[0] + 2)}|${'-'.repeat(widths[1] + 2)}|${'-'.repeat(widths[2] + 1)}:|`;
  const where = Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
  return [`${name}, ${rounds} rounds, ${where}`, '', line(rows[0]), rule, ...rows.slice(1).map(line)].join('\n');
}
