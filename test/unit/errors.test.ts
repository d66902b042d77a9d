import { ERROR_CODES, fromErrorRecord, isNightshiftError, NightshiftError, toErrorRecord } from '@nightshift/core';
import { describe, expect, it } from 'vitest';

describe('errors', () => {
  it('survives a trip through JSON with code, message, next step and data', () => {
    const error = new NightshiftError('tile-truncated', 'slide a.svs: block 3 ends early', { data: { block: 3 } });
    const back = fromErrorRecord(JSON.parse(JSON.stringify(toErrorRecord(error))));
    expect(isNightshiftError(back, 'tile-truncated')).toBe(true);
    expect(back).toMatchObject({
      message: error.message,
      data: { block: 3 },
      next: ERROR_CODES['tile-truncated'].next,
    });
  });

  it('records a foreign error as a bug, with its message', () => {
    expect(toErrorRecord(new TypeError('x is not a function'))).toMatchObject({
      code: 'internal',
      message: 'x is not a function',
    });
  });

  it('tells a next step for every code', () => {
    for (const [code, kind] of Object.entries(ERROR_CODES)) expect(kind.next, code).toMatch(/\.$/);
  });
});
