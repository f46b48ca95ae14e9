// The `elgate` command, started by `bin/elgate.js`.

import { run } from './program.js';

process.exitCode = await run(process.argv.slice(2));
