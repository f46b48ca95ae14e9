// What the plots call those who were measured.

const TITLES = { elgate: 'Elgate', floor: 'bare device', redis: 'Redis', fs: 'fs + fdatasync' };

export const titleOf = (name) => TITLES[name] ?? name;
