import type { VerifyReport } from '../record/verify.ts';

export interface VerifyOptions {
  readonly out: string;
  readonly run: string | null;
  readonly store: string | null;
}

/** Recounts a record: plans against rows, failures, vectors and the vector store. */
export declare function verify(options: VerifyOptions): Promise<VerifyReport>;
