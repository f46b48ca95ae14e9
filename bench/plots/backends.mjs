// The same work on every backend.

import { COLOURS, label } from './svg.mjs';

const PANELS = [
  ['append_p50_us', 'one at a time, median µs', 1, 'lower is better'],
  ['append_16_p50_us', '16 at a time, median µs', 1, 'lower is better'],
  ['append_16_per_s', '16 at a time, 1,000/s', 1e3, 'higher is better'],
  ['bulk_mb_s', '4 KiB records, MB/s', 1, 'higher is better'],
];

/** @param {Record<string, Record<string, number>>} backends figures by backend */
export function backends(backends) {
  const names = Object.keys(backends);
  const range = [COLOURS.Elgate, COLOURS['better-sqlite3'], COLOURS.fjall].slice(0, names.length);
  return {
    title: { text: 'The log on each I/O backend', subtitle: 'durable appends; 128 bytes where not said otherwise' },
    spacing: 36,
    hconcat: PANELS.map(([figure, title, divisor, hint]) => {
      const values = names.map((backend) => ({ backend, value: backends[backend][figure] / divisor }));
      const x = { field: 'backend', type: 'nominal', sort: null, axis: { title: null, labelAngle: 0, ticks: false } };
      // Room for the label above the highest bar.
      const domain = [0, 1.15 * Math.max(...values.map(({ value }) => value))];
      const y = {
        field: 'value',
        type: 'quantitative',
        scale: { domain, nice: false },
        axis: { title: null, tickCount: 4 },
      };
      return {
        title: { text: title, subtitle: hint, fontSize: 12, subtitleFontSize: 11, offset: 6 },
        width: { step: 62 },
        height: 180,
        data: { values },
        layer: [
          {
            mark: { type: 'bar', cornerRadiusEnd: 3, width: { band: 0.6 } },
            encoding: {
              x,
              y,
              color: { field: 'backend', type: 'nominal', scale: { domain: names, range }, legend: null },
            },
          },
          {
            mark: label({ baseline: 'bottom', dy: -3 }),
            encoding: { x, y, text: { field: 'value', type: 'quantitative', format: ',.0f' } },
          },
        ],
      };
    }),
  };
}
