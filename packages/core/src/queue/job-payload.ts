import { z } from 'zod';
import { NightshiftError } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import type { Job, Role } from './queue.ts';

/** Largest job, as JSON. Redis holds every waiting job in memory, and a job names things, it does not carry them. */
export const MOST_JOB_BYTES = 4096;
const VERSION = 1;
const DEFAULT_PRIORITY = 100;

const text = (most: number) => z.string().min(1).max(most);
const name = (most: number) => text(most).regex(/^[A-Za-z0-9._-]+$/);
const count = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31);

/** Unknown keys are dropped, not refused: the next minor version may add some while this one still takes jobs. */
const schema = z.object({
  v: z.literal(VERSION),
  out: text(2048),
  run: name(128),
  model: z.string().regex(/^[0-9a-f]{64}$/),
  slide: z.object({
    key: name(200),
    uri: text(2048),
    contentId: text(512),
    mpp: z.number().positive().max(1000).nullable(),
    outline: z.string().max(64).optional(),
  }),
  shard: z
    .object({ index: count, from: count, to: count, of: count })
    .refine(({ index, from, to, of }) => index < of && from < to)
    .optional(),
  priority: z.number().int().min(1).max(1000).optional(),
});

/** Ids make Redis keys and file names elsewhere; BullMQ refuses ':' and takes numbers for its own. */
const ID = /^(?!\d+$)[A-Za-z0-9._-]{1,400}$/;

export const priorityOf = (job: Job): number => job.priority ?? DEFAULT_PRIORITY;

/** Digits of a model's digest that name its queue: enough to tell the models of one Redis apart, short enough to read. */
export const modelTag = (digest: string): string => digest.slice(0, 12);

/**
 * A job as Redis holds it.
 * @throws NightshiftError `job-invalid` for a job that no process would take.
 */
export function encodeJob(role: Role, { id, ...rest }: Job): { readonly v: number } & Omit<Job, 'id'> {
  const payload = { v: VERSION, ...rest };
  const decoded = decodeJob(role, id, payload);
  if ('job' in decoded) return payload;
  const [shownId, uri] = [id.slice(0, 100), rest.slide.uri.slice(0, 200)];
  throw new NightshiftError('job-invalid', `job ${shownId} of ${uri} cannot be queued: ${decoded.problem}`);
}

/** The job that Redis holds under an id, or why it is none: whoever can write to Redis can write anything. */
export function decodeJob(role: Role, id: string, payload: unknown): { job: Job } | { problem: string } {
  if (!ID.test(id)) return { problem: 'the id is not 1 to 400 of A-Z a-z 0-9 . _ - with one that is no digit' };
  const bytes = payloadBytes(payload);
  if (bytes > MOST_JOB_BYTES) return { problem: `${bytes} bytes, at most ${MOST_JOB_BYTES} are allowed` };
  const parsed = schema.safeParse(payload);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    return { problem: `${path.join('.') || 'job'}: ${message}`.slice(0, 200) };
  }
  const { v: _, slide, ...job } = parsed.data;
  if ((role === 'embed') !== (job.shard !== undefined)) {
    return { problem: role === 'embed' ? 'an embed job names a shard' : `a job of ${role} names no shard` };
  }
  return { job: { id, ...job, slide: slide as SlideRef } };
}

export const payloadBytes = (payload: unknown): number => Buffer.byteLength(JSON.stringify(payload) ?? '');
