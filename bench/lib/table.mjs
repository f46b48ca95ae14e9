// A result as a table for people.

const UNITS = { us: 'µs', ms: 'ms', ns: 'ns', mb_s: 'MB/s', per_s: '/s', us_per_record: 'µs' };

function show(name, value) {
  const unit = Object.keys(UNITS)
    .sort((a, b) => b.length - a.length)
    .find((suffix) => name.endsWith(`_${suffix}`));
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const number = value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
  if (name.includes('_over_')) return `${number} x`;
  return unit ? `${number} ${UNITS[unit]}` : number;
}

/** Rows as Markdown; the last columns are numbers. */
function render(rows, numbers) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const isNumber = (column) => column >= rows[0].length - numbers;
  const pad = (text, column) => (isNumber(column) ? text.padStart(widths[column]) : text.padEnd(widths[column]));
  const line = (row) => `| ${row.map(pad).join(' | ')} |`;
  const rule = widths.map((width, column) => (isNumber(column) ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2)));
  return [line(rows[0]), `|${rule.join('|')}|`, ...rows.slice(1).map(line)].join('\n');
}

/** Every figure, one to a row. */
export function figures({ metrics, floor, peers }) {
  const rows = [['', 'figure', 'median']];
  const sections = Object.entries({ elgate: metrics, floor, ...peers });
  for (const [title, section] of sections)
    for (const [index, [figure, value]] of Object.entries(section).entries())
      rows.push([index === 0 ? title : '', figure, show(figure, value)]);
  return render(rows, 1);
}

/** The same figures on every backend, if they were measured. */
export function backendMatrix({ backends }) {
  const names = Object.keys(backends);
  const rows = [['on the backend', ...names]];
  for (const figure of Object.keys(backends[names[0]]))
    rows.push([figure, ...names.map((name) => show(figure, backends[name][figure]))]);
  return render(rows, names.length);
}

export function machineLine(machine) {
  return Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
}

/** @param {object} result the object that `--json` prints */
export function table(result) {
  const parts = [`${result.case}, ${result.rounds} rounds, ${machineLine(result.machine)}`, figures(result)];
  if (result.backends) parts.push(backendMatrix(result));
  if (result.notes?.length > 0) parts.push(result.notes.map((note) => `* ${note}`).join('\n'));
  return parts.join('\n\n');
}
