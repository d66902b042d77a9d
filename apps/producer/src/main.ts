#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { runProgram } from '@nightshift/cli';
import { demoCommand } from './commands/demo.ts';
import { doctorCommand } from './commands/doctor.ts';
import { embedCommand } from './commands/embed.ts';
import { inspectCommand } from './commands/inspect.ts';
import { modelBenchCommand } from './commands/model-bench.ts';
import { modelCheckCommand } from './commands/model-check.ts';
import { modelConvertCommand } from './commands/model-convert.ts';
import { modelListCommand } from './commands/model-list.ts';
import { modelPullCommand } from './commands/model-pull.ts';
import { retryCommand } from './commands/retry.ts';
import { searchCommand } from './commands/search.ts';
import { statusCommand } from './commands/status.ts';
import { submitCommand } from './commands/submit.ts';
import { verifyCommand } from './commands/verify.ts';

const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8');

await runProgram({
  name: 'nightshift',
  about: 'whole-slide images to searchable, verifiable tile embeddings',
  version: (JSON.parse(manifest) as { version: string }).version,
  examples: [
    'nightshift demo                                          # everything once, on slides it makes itself',
    'nightshift embed slides/ --model models/midnight --out out',
    'nightshift submit s3://bucket/slides/ --model models/midnight --out s3://bucket/out --redis redis://queue',
    'nightshift search out --tile slide-1:4480,2240 --contact-sheet hits.jpg',
  ],
  commands: [
    embedCommand,
    submitCommand,
    statusCommand,
    retryCommand,
    searchCommand,
    verifyCommand,
    inspectCommand,
    modelListCommand,
    modelPullCommand,
    modelConvertCommand,
    modelCheckCommand,
    modelBenchCommand,
    doctorCommand,
    demoCommand,
  ],
});
