// The tools a build needs, and how to get each one that is missing.

import { capture } from './process.mjs';

const NODE_MAJOR_MIN = 20;
const RUST_MINOR_MIN = 88;

const ADVICE = {
  node: `Install Node ${NODE_MAJOR_MIN} or later: https://nodejs.org/en/download`,
  npm: 'Install npm: it comes with Node, https://nodejs.org/en/download',
  cargo: 'Install Rust: https://rustup.rs, then open a new shell',
  rust: `Update Rust to 1.${RUST_MINOR_MIN} or later: rustup update stable`,
  cc: "Install a C toolchain: on Debian and Ubuntu, 'sudo apt-get install build-essential'",
};

/** A tool that is missing or too old. The message says which, and what to do about it. */
export class MissingTool extends Error {}

/** Whether `command` can be run here. */
export async function hasTool(command, args = ['--version']) {
  return (await capture(command, args)) !== undefined;
}

/**
 * Checks that everything the build needs is here.
 *
 * @throws {MissingTool} naming every tool that is not, with how to get it.
 */
export async function requireBuildTools() {
  const missing = [];
  if (process.platform !== 'linux') {
    missing.push(`Linux: Elgate is built on Linux's shared memory, futexes and io_uring; this is ${process.platform}`);
  }
  if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
    missing.push(`node ${NODE_MAJOR_MIN}+: this is ${process.version}. ${ADVICE.node}`);
  }
  if (!(await hasTool('npm'))) missing.push(`npm: not found. ${ADVICE.npm}`);
  const cargo = await capture('cargo', ['--version']);
  if (cargo === undefined) {
    missing.push(`cargo: not found. ${ADVICE.cargo}`);
  } else {
    const minor = Number(/^cargo 1\.(\d+)/.exec(cargo)?.[1] ?? 0);
    if (minor < RUST_MINOR_MIN) missing.push(`rust 1.${RUST_MINOR_MIN}+: this is ${cargo}. ${ADVICE.rust}`);
  }
  if (!(await hasTool('cc'))) missing.push(`cc: not found. ${ADVICE.cc}`);
  if (missing.length > 0) {
    throw new MissingTool(`missing tools:\n${missing.map((line) => `  ${line}`).join('\n')}`);
  }
}
