// Vega-Lite to SVG, without a browser, in colours that follow the reader's light or dark theme.

import { parse, View } from 'vega';
import { compile } from 'vega-lite';

// Colours that a style sheet in the file replaces, light and dark.
const TEXT = '#101010';
const QUIET = '#202020';
const GRID = '#303030';
const PAPER = '#404040';
const THEMES = {
  light: { [TEXT]: '#1f2328', [QUIET]: '#59636e', [GRID]: '#d8dee4', [PAPER]: '#ffffff' },
  dark: { [TEXT]: '#e6edf3', [QUIET]: '#9198a1', [GRID]: '#30363d', [PAPER]: '#0d1117' },
};

/** Who has which colour in every plot: seen on white and on black. */
export const COLOURS = {
  Elgate: '#e8590c',
  'bare device': '#868e96',
  'better-sqlite3': '#228be6',
  Redis: '#e64980',
  'fs + fdatasync': '#9775fa',
  fjall: '#37b24d',
};

const FONT = 'system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif';

const CONFIG = {
  background: PAPER,
  font: FONT,
  padding: 16,
  view: { stroke: null },
  title: { color: TEXT, subtitleColor: QUIET, anchor: 'start', fontSize: 15, subtitleFontSize: 12, offset: 12 },
  axis: {
    labelColor: QUIET,
    titleColor: QUIET,
    gridColor: GRID,
    domainColor: GRID,
    tickColor: GRID,
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: 'normal',
  },
  legend: {
    labelColor: TEXT,
    titleColor: QUIET,
    labelFontSize: 12,
    titleFontSize: 12,
    symbolStrokeWidth: 3,
  },
  header: { labelColor: TEXT, titleColor: QUIET, labelFontSize: 12 },
  text: { color: TEXT, fontSize: 11 },
};

/** A scale that gives names their colours. */
export const colourScale = (names = Object.keys(COLOURS)) => ({
  domain: names,
  range: names.map((name) => COLOURS[name]),
});

/** The mark type of text in the theme's colour. */
export const label = (properties) => ({ type: 'text', color: TEXT, ...properties });

/**
 * @param {object} spec Vega-Lite, without a configuration of its own
 * @returns {Promise<string>}
 */
export async function toSvg(spec) {
  const { spec: vega } = compile({
    $schema: 'https://vega.github.io/schema/vega-lite/v5.json',
    ...spec,
    config: CONFIG,
  });
  const view = new View(parse(vega), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  // Roles are for documents that a reader can step through; this one is a picture with a title.
  return svg
    .replaceAll(/ (role|aria-[a-z]+)="[^"]*"/g, '')
    .replace(/^(<svg[^>]*>)/, `$1<title>${spec.title.text}</title><style>${style()}</style>`);
}

function style() {
  const rules = (theme) =>
    Object.entries(theme)
      .map(([from, to]) => `[fill="${from}"]{fill:${to}}[stroke="${from}"]{stroke:${to}}`)
      .join('');
  return `${rules(THEMES.light)}@media (prefers-color-scheme:dark){${rules(THEMES.dark)}}`;
}
