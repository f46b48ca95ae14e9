// What users get: the library and this platform's addon as npm packs them, installed somewhere else.

import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeDir, platformTriple, root } from '../lib/paths.mjs';

/** Packs, installs and runs tests/install/append.mjs against the result. */
export async function packed(context) {
  const world = mkdtempSync(join(tmpdir(), 'elgate-packed-'));
  const must = async (command, args, cwd) => {
    const outcome = await context.run(command, args, { cwd });
    if (!outcome.ok) throw new Error(`${command} ${args.join(' ')}: ${outcome.reason}`);
    return outcome;
  };
  try {
    const platform = platformTriple();
    const addon = `elgate.${platform}.node`;
    cpSync(join(root, 'npm', platform), join(world, platform), { recursive: true });
    copyFileSync(join(nativeDir, addon), join(world, platform, addon));
    const tarballs = join(world, 'tarballs');
    mkdirSync(tarballs);
    await must('npm', ['pack', '--quiet', '--pack-destination', tarballs, `./${platform}`], world);
    await must('npm', ['pack', '--quiet', '--pack-destination', tarballs, '-w', 'elgate'], root);

    const user = join(world, 'user');
    mkdirSync(user);
    writeFileSync(join(user, 'package.json'), '{ "private": true }\n');
    const files = readdirSync(tarballs).map((name) => join(tarballs, name));
    await must('npm', ['install', '--quiet', '--no-audit', '--no-fund', '--prefer-offline', ...files], user);
    copyFileSync(join(root, 'tests/install/append.mjs'), join(user, 'append.mjs'));
    await must('npx', ['--no-install', 'elgate', '--version'], user);
    return await must(process.execPath, ['append.mjs'], user);
  } finally {
    rmSync(world, { recursive: true, force: true });
  }
}
