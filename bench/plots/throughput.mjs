// How much becomes durable a second: records in bulk, and bytes.

import { titleOf } from './names.mjs';
import { colourScale, label } from './svg.mjs';

const RECORDS = [
  ['elgate', 'records_per_s', 'ring, packed'],
  ['fjall', 'append_many_per_s', 'batches of 1,000'],
  ['better-sqlite3', 'append_many_per_s', 'transactions of 1,000'],
  ['redis', 'records_per_s', 'pipelined, 4 connections'],
];

const BYTES = [
  ['floor', 'write_256k_mb_s', '256 KiB writes'],
  ['elgate', 'bulk_mb_s', '4 KiB records, with retention'],
  ['elgate', 'bulk_growing_mb_s', '4 KiB records, growing'],
];

export function throughput({ metrics, floor, peers }) {
  const of = { elgate: metrics, floor, ...peers };
  const rows = (wanted) =>
    wanted
      .filter(([name, figure]) => of[name]?.[figure] !== undefined)
      .map(([name, figure, how]) => ({
        what: `${titleOf(name)}: ${how}`,
        who: titleOf(name),
        value: of[name][figure],
      }));
  return {
    title: { text: 'Durable throughput', subtitle: 'everything counted is synced and was read back; longer is better' },
    vconcat: [
      panel(rows(RECORDS), 'million records of 128 bytes a second', 1e6, '.2f'),
      panel(rows(BYTES), 'megabytes a second', 1, ',.0f'),
    ],
  };
}

function panel(values, title, divisor, format) {
  const scaled = values.map((row) => ({ ...row, value: row.value / divisor }));
  const y = { field: 'what', type: 'nominal', sort: null, axis: { title: null, labelLimit: 0, ticks: false } };
  const x = { field: 'value', type: 'quantitative', axis: { title, grid: true, tickCount: 6 } };
  return {
    width: 420,
    height: { step: 30 },
    data: { values: scaled },
    layer: [
      {
        mark: { type: 'bar', cornerRadiusEnd: 3, height: { band: 0.7 } },
        encoding: { x, y, color: { field: 'who', type: 'nominal', scale: colourScale(), legend: null } },
      },
      {
        mark: label({ align: 'left', dx: 5 }),
        encoding: { x, y, text: { field: 'value', type: 'quantitative', format } },
      },
    ],
  };
}
