// How long one durable append takes: the share of appends that were done within a time.

import { titleOf } from './names.mjs';
import { colourScale } from './svg.mjs';

/** @param {Record<string, [number, number][]>} latencies by who, `[percent, microseconds]` */
export function appendLatency(latencies) {
  const names = Object.keys(latencies).map(titleOf);
  const values = Object.entries(latencies).flatMap(([name, points]) =>
    points.map(([percent, us]) => ({ who: titleOf(name), percent, us })),
  );
  return {
    title: {
      text: 'One durable append at a time, 128 bytes',
      subtitle: 'share of appends done within a time; further left and steeper is better',
    },
    width: 560,
    height: 300,
    data: { values },
    mark: { type: 'line', strokeWidth: 2.5, clip: true },
    encoding: {
      x: {
        field: 'us',
        type: 'quantitative',
        scale: { type: 'log', nice: false, domainMin: 50, domainMax: 1000, clamp: false },
        axis: { title: 'microseconds', values: [50, 70, 100, 150, 200, 300, 500, 700, 1000] },
      },
      y: { field: 'percent', type: 'quantitative', axis: { title: '% of appends', values: [0, 25, 50, 75, 95] } },
      color: { field: 'who', type: 'nominal', scale: colourScale(names), legend: { title: null } },
      order: { field: 'percent' },
    },
  };
}
