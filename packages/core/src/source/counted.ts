import type { ByteSource } from './source.ts';

/** What was asked of a source: bytes, joined gaps included, and reads. A read that had to be made again counts once. */
export interface ReadCost {
  readonly bytes: number;
  readonly requests: number;
}

/** What reading one slide has cost, beside what the object holds. */
export interface SlideReads extends ReadCost {
  readonly objectBytes: number;
}

export const NO_READS: ReadCost = { bytes: 0, requests: 0 };

export const sumOfReads = (costs: Iterable<ReadCost>): ReadCost => {
  let { bytes, requests } = NO_READS;
  for (const cost of costs) {
    bytes += cost.bytes;
    requests += cost.requests;
  }
  return { bytes, requests };
};

/** The source, and what its reads have cost since `claim` was last called: each read is claimed once. */
export function counted(source: ByteSource): { readonly source: ByteSource; claim(): ReadCost } {
  let { bytes, requests } = NO_READS;
  return {
    source: {
      ...source,
      async read(ranges, signal) {
        const parts = await source.read(ranges, signal);
        requests += ranges.length;
        for (const { length } of ranges) bytes += length;
        return parts;
      },
      close: () => source.close(),
    },
    claim() {
      const cost = { bytes, requests };
      bytes = requests = 0;
      return cost;
    },
  };
}
