import { describe, expect, it } from 'vitest';
import { faultsOf } from '../../fixtures/infra.ts';

describe('the check of command lines', () => {
  it('passes what the programs take', () => {
    expect(faultsOf(['nightshift-worker', '--roles', 'plan,index', '--export-queue', '--port', '0'])).toEqual([]);
    expect(faultsOf(['nightshift', 'submit', 's3://a/', 's3://b/', '--out', 's3://c/d', '--detach'])).toEqual([]);
  });

  it('finds what they do not take', () => {
    expect(faultsOf(['nightshift-worker', '--role', 'plan'])).toContain('nightshift-worker  has no flag --role');
    expect(faultsOf(['nightshift-worker', '--port', '--export-queue'])).toContain('--port lacks its value');
    expect(faultsOf(['nightshift-worker', '--export-queue', 'yes'])).toEqual(['yes belongs to no flag']);
    expect(faultsOf(['nightshaft'])).toEqual(['no program nightshaft']);
  });
});
