#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { runProgram } from '@nightshift/cli';
import { workCommand } from './work.ts';

const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8');

await runProgram({
  name: 'nightshift-worker',
  about: 'takes jobs of a queue: plans slides, embeds shards, indexes results',
  version: (JSON.parse(manifest) as { version: string }).version,
  examples: [],
  commands: [workCommand],
});
