import { verify } from '@nightshift/core';
import { command, quoted, SHARED } from '../command.ts';

export const verifyCommand = command({
  name: 'verify',
  about: 'Recount a record: plans against vectors, failures and the vector store.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [['nightshift verify out', 'the only run, or each of them']],
  flags: { run: SHARED.run, store: SHARED.store },
  async run({ args, flags }) {
    const [out] = args as [string];
    const report = await verify({ out, run: flags.run, store: flags.store });
    return { exit: 0, data: [], notes: [], next: [quoted(out)], json: report };
  },
});
