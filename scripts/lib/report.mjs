// How the scripts speak: headings, durations, and one line for an error.

const colour = process.stdout.isTTY && !process.env.NO_COLOR;

const paint = (code, text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);

export const bold = (text) => paint(1, text);
export const dim = (text) => paint(2, text);
export const red = (text) => paint(31, text);
export const green = (text) => paint(32, text);
export const yellow = (text) => paint(33, text);

/** A heading that stands out in a long log. */
export function heading(text) {
  console.log(`\n${bold(`==> ${text}`)}`);
}

/** Seconds since `start`, a value of `process.hrtime.bigint()`. */
export function secondsSince(start) {
  return Number(process.hrtime.bigint() - start) / 1e9;
}

/** A duration for people: `0.4 s`, `12 s`, `3 min 05 s`. */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** Removes colour codes, so that text can be parsed. */
export function plain(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one.
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '');
}

/** Prints one line on stderr and ends with exit code 1. */
export function fail(message) {
  console.error(red(`elgate: ${message}`));
  process.exit(1);
}
