import { NightshiftError } from '../../packages/core/src/errors.ts';
import type { Target } from './targets.ts';

const target = (run: (input: Buffer) => void): Target => ({ words: [], run: async (input) => run(input) });

/** What the fuzzer must find, to be believed where it finds nothing. */
export const PLANTED: Readonly<Record<string, Target>> = {
  /** Three bits are not flipped together in some thousand tries, but one by one where new code tells of each. */
  nested: target((input) => {
    if (input[0] === 0x79) {
      if (input[1] === 0x70) {
        if (input[2] === 0x68) {
          throw new TypeError('the planted bug');
        }
      }
    }
    throw new NightshiftError('slide-corrupt', 'not this one');
  }),
  slow: target((input) => {
    const spent = () => Object.values(process.cpuUsage()).reduce((sum, one) => sum + one);
    const until = spent() + 500_000;
    while (input[0] === 0x73 && spent() < until);
  }),
  large: target((input) => {
    if (input[0] === 0x6c) Buffer.alloc(600 << 20, 1);
  }),
  deadly: target((input) => {
    if (input[0] === 0x64) process.kill(process.pid, 'SIGSEGV');
  }),
  endless: target((input) => {
    while (input[0] === 0x65);
  }),
};
