import { expect, it } from 'vitest';
import { suggest } from '../../../packages/cli/src/suggest.ts';

const COMMANDS = ['embed', 'search', 'verify', 'inspect', 'doctor', 'demo'];

it.each([
  ['embde', 'embed'],
  ['serach', 'search'],
  ['Verify', 'verify'],
  ['inspekt', 'inspect'],
  ['dmeo', 'demo'],
])('%s was meant to be %s', (word, meant) => {
  expect(suggest(word, COMMANDS)).toBe(meant);
});

it.each(['train', 'x', ''])('"%s" is like none of them', (word) => {
  expect(suggest(word, COMMANDS)).toBeNull();
});
