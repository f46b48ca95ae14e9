// fjall, an embedded log-structured store in Rust: every write synced before it counts.

import { join } from 'node:path';
import { root, targetDir } from '../../scripts/lib/paths.mjs';
import { Answerer, build } from '../lib/answerer.mjs';

export async function fjall(directory, seconds) {
  const target = targetDir();
  build('elgate-bench-fjall', [], { cwd: join(root, 'bench/fjall'), target });
  const program = new Answerer(join(target, 'release/elgate-bench-fjall'), [join(directory, 'fjall')]);
  return {
    name: 'fjall',
    single: () => program.request(`single ${seconds}`),
    volume: () => program.request(`volume ${seconds}`),
    close: () => program.close(),
    kill: () => program.kill(),
  };
}
