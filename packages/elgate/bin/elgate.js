#!/usr/bin/env node
// Committed, unlike `dist`, so that npm can link the command before the TypeScript is compiled.

import '../dist/cli/main.js';
