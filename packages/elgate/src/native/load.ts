// Finds the native addon and loads it, once per process: ELGATE_NATIVE, else a development build in
// `native/` of this package, else the prebuilt package of this platform.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ElgateError, messageOf } from '../errors.js';
import type { Binding } from './binding.js';

const require = createRequire(import.meta.url);

let loaded: Binding | undefined;

/** The addon. Throws an {@link ElgateError} that says what to install or build. */
export function binding(): Binding {
  loaded ??= load();
  return loaded;
}

/** Puts `substitute` in the addon's place, for tests; `undefined` goes back to the addon. */
export function provideBinding(substitute: Binding | undefined): void {
  loaded = substitute;
}

/** The platform as prebuilt packages name it, for example `linux-x64-gnu`. */
export function platformTriple(): string {
  const base = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return base;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return `${base}-${report.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`;
}

/** Where a development build of the addon is looked for. */
export function developmentBuild(): string {
  return fileURLToPath(new URL(`../../native/elgate.${platformTriple()}.node`, import.meta.url));
}

function load(): Binding {
  const forced = process.env.ELGATE_NATIVE;
  if (forced) {
    const path = resolve(forced);
    if (!existsSync(path)) {
      throw unavailable(`ELGATE_NATIVE names ${path}, which does not exist: correct or unset it`);
    }
    return open(path);
  }
  const development = developmentBuild();
  if (existsSync(development)) return open(development);
  const prebuilt = `@elgate/${platformTriple()}`;
  try {
    return require(prebuilt) as Binding;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') {
      throw unavailable(`${prebuilt} does not load: ${messageOf(error)}`);
    }
    throw unavailable(
      `there is no native addon for ${platformTriple()}: in a clone run \`npm run build:native\`; ` +
        `otherwise install ${prebuilt} (npm leaves optional packages out when a lock file was made elsewhere: ` +
        'delete node_modules and package-lock.json and install again)',
    );
  }
}

function open(path: string): Binding {
  try {
    return require(path) as Binding;
  } catch (error) {
    throw unavailable(
      `the native addon ${path} does not load: ${messageOf(error)}. ` +
        'It may be built for another platform: run `npm run build:native`',
    );
  }
}

function unavailable(message: string): ElgateError {
  return new ElgateError('ERR_ELGATE_UNSUPPORTED', message);
}
