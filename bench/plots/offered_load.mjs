// How long a record takes to become durable, against how many are offered a second.

import { titleOf } from './names.mjs';
import { colourScale } from './svg.mjs';

/** @param {{rate: number, who: string, mean_us: number, p95_us: number}[]} loads */
export function offeredLoad(loads) {
  const values = loads.flatMap(({ rate, who, mean_us, p95_us }) => [
    { rate, who: titleOf(who), what: 'mean', us: mean_us },
    { rate, who: titleOf(who), what: '95th percentile', us: p95_us },
  ]);
  return {
    title: {
      text: 'Latency against offered load, 128 bytes, one core',
      subtitle: [
        'open loop, from the intended send time to durable; lower and flatter is better',
        'solid: mean, dashed: 95th percentile',
      ],
    },
    width: 560,
    height: 300,
    data: { values },
    mark: { type: 'line', strokeWidth: 2.5, point: { size: 40, filled: true } },
    encoding: {
      x: {
        field: 'rate',
        type: 'quantitative',
        scale: { type: 'log', nice: false },
        axis: { title: 'records offered a second', format: '~s', values: [...new Set(loads.map(({ rate }) => rate))] },
      },
      y: {
        field: 'us',
        type: 'quantitative',
        scale: { type: 'log', nice: false, domainMin: 50 },
        axis: { title: 'microseconds', format: '~s', values: [50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] },
      },
      color: { field: 'who', type: 'nominal', scale: colourScale(['Elgate', 'bare device']), legend: { title: null } },
      strokeDash: {
        field: 'what',
        type: 'nominal',
        scale: {
          domain: ['mean', '95th percentile'],
          range: [
            [1, 0],
            [5, 4],
          ],
        },
        legend: null,
      },
    },
  };
}
