#!/usr/bin/env node
import { launch } from '@nightshift/cli/launch.js';

await launch(new URL('../src/main.ts', import.meta.url));
