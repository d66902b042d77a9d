import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { NightshiftError } from '../errors.ts';
import { hedged } from './hedge.ts';
import { type S3Location, s3Uri } from './s3-config.ts';
import { classify, isForeign, type RetryReason, type StatusClass, toS3Error, transportError } from './s3-errors.ts';
import { throttle } from './throttle.ts';

export type S3Operation = 'head' | 'get' | 'list' | 'put' | 'delete' | 'multipart';

/** Told of every request as it ends; what it counts is the observer's matter. */
export interface S3Observer {
  request(operation: S3Operation, statusClass: StatusClass): void;
  /** Bytes of object content that were received, whatever became of them. */
  bytes(count: number): void;
  retry(reason: RetryReason): void;
}

/** How long silence is borne, and how often a request is made. Tests set it shorter. */
export interface S3Patience {
  readonly connectMs: number;
  /** From the request to the first byte of the answer. */
  readonly firstByteMs: number;
  /** A read without an answer after this long is asked for once more, on another connection. */
  readonly hedgeMs: number;
  /** An answer that brings less than 16 KiB in this time is given up. */
  readonly stallMs: number;
  /** Of a request that finds nobody. One that the store answers, if only to refuse it, is made twice as often. */
  readonly tries: number;
  /** The n-th pause is random, up to `backoffMs * 2^(n-1)` and never above the cap (full jitter). */
  readonly backoffMs: number;
  readonly backoffCapMs: number;
}

export const PATIENCE: S3Patience = {
  connectMs: 3_000,
  firstByteMs: 5_000,
  hedgeMs: 2_000,
  stallMs: 10_000,
  tries: 8,
  backoffMs: 250,
  backoffCapMs: 20_000,
};
const PROGRESS_BYTES = 16_384;
/** Bytes a second. A slower line than this is taken for a broken one while it sends. */
const SLOWEST_UPLOAD = 256 * 1024;

export interface Call<A> {
  readonly operation: S3Operation;
  readonly at: S3Location;
  /** Statuses that are answers here, and what they mean. */
  readonly answers?: Readonly<Record<number, A>>;
  readonly signal?: AbortSignal | undefined;
}

/** Where a body goes: `target` from `done` on. Kept over tries, so that a broken answer's bytes are not asked for again. */
export interface Sink {
  readonly target: Uint8Array;
  done: number;
}

/** How requests are made, whatever they say: bounded in time, again where that may help, as many at once as the store bears. */
export interface Requests {
  /** Runs `once` until it ends well, in an answer, in an error that stays, or without patience. */
  call<T, A = never>(call: Call<A>, once: () => Promise<T>): Promise<T | A>;
  /** A read: asked for twice where the answer is late. `discard` gets an answer that came too late. */
  ask<T>(run: (signal: AbortSignal) => Promise<T>, discard: (late: T) => void, signal?: AbortSignal): Promise<T>;
  /** A write: one request, given the time that its bytes need on a slow line, and `leastMs` for the answer. */
  send<T>(run: (signal: AbortSignal) => Promise<T>, bodyBytes?: number, leastMs?: number): Promise<T>;
  /** Reads a body into the sink, without its first `skip` bytes. Fails where it ends early, breaks or stalls. */
  drain(body: Readable, sink: Sink, skip: number, signal?: AbortSignal): Promise<void>;
}

export interface RequestsOptions {
  readonly patience: S3Patience;
  readonly observer: S3Observer | undefined;
  /** Done before every try, outside of all deadlines. */
  readonly prepare: (at: S3Location) => Promise<unknown>;
  /** Told the region of a bucket where the store names another than it was asked in; the request is then made again, once. */
  readonly move: (at: S3Location, region: string) => void;
}

export function requests({ patience, observer, prepare, move }: RequestsOptions): Requests {
  const lanes = throttle();
  const timeout = (ms: number) => transportError('timeout', `no answer within ${Math.round(ms)} ms`);

  async function call<T, A>({ operation, at, answers, signal }: Call<A>, once: () => Promise<T>): Promise<T | A> {
    let moved = false;
    for (let tried = 1; ; tried++) {
      const leave = await lanes.enter(signal);
      let wait: number;
      try {
        await prepare(at);
        const result = await once();
        leave('good');
        observer?.request(operation, '2xx');
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof NightshiftError) throw error;
        const failure = classify(error);
        if (isForeign(failure)) throw error;
        leave(failure.slow ? 'slow' : 'other');
        observer?.request(operation, failure.statusClass);
        const answer = failure.code === 'NoSuchBucket' ? undefined : answers?.[failure.status];
        if (answer !== undefined) return answer;
        if (failure.misplaced && failure.region !== null && !moved) {
          moved = true;
          move(at, failure.region);
          continue;
        }
        const tries = failure.status === 0 ? patience.tries : 2 * patience.tries;
        if (failure.retry === null || tried >= tries) {
          throw toS3Error(failure, `${operation} ${s3Uri(at)}`, error);
        }
        observer?.retry(failure.retry);
        const most = Math.min(patience.backoffCapMs, patience.backoffMs * 2 ** (tried - 1));
        wait = Math.max(Math.random() * most, Math.min(failure.retryAfterMs, patience.backoffCapMs));
      } finally {
        leave('other');
      }
      await pause(wait, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  async function ask<T>(
    run: (signal: AbortSignal) => Promise<T>,
    discard: (late: T) => void,
    signal?: AbortSignal,
  ): Promise<T> {
    const seconds: NonNullable<ReturnType<typeof lanes.tryEnter>>[] = [];
    try {
      return await hedged(run, discard, {
        deadlineMs: patience.firstByteMs,
        hedgeMs: patience.hedgeMs,
        signal,
        mayHedge: () => {
          const leave = lanes.tryEnter();
          if (leave) seconds.push(leave);
          return leave !== null;
        },
        late: () => timeout(patience.firstByteMs),
      });
    } finally {
      for (const leave of seconds) leave('other');
    }
  }

  async function send<T>(
    run: (signal: AbortSignal) => Promise<T>,
    bodyBytes = 0,
    leastMs = patience.stallMs,
  ): Promise<T> {
    const ms = leastMs + (bodyBytes / SLOWEST_UPLOAD) * 1000;
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), ms);
    try {
      return await run(controller.signal);
    } catch (error) {
      throw controller.signal.aborted ? timeout(ms) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  async function drain(body: Readable, sink: Sink, skip: number, signal?: AbortSignal): Promise<void> {
    const full = () => sink.done === sink.target.length;
    let received = 0;
    let seen = 0;
    let enough = false;
    const watch = setInterval(() => {
      enough = full();
      const progress = received - seen;
      seen = received;
      if (progress < PROGRESS_BYTES) {
        body.destroy(transportError('stall', `${progress} bytes within ${patience.stallMs} ms`));
      }
    }, patience.stallMs);
    const abort = () => body.destroy(transportError('connection', 'aborted'));
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        received += chunk.length;
        observer?.bytes(chunk.length);
        const from = Math.min(skip, chunk.length);
        skip -= from;
        const part = chunk.subarray(from, from + sink.target.length - sink.done);
        sink.target.set(part, sink.done);
        sink.done += part.length;
        // More than was asked for is left unread, which costs the connection; the end that belongs here keeps it.
        if (part.length + from < chunk.length) return;
      }
      if (!full()) {
        throw transportError('short-body', `the answer ends ${sink.target.length - sink.done} bytes early`);
      }
    } catch (error) {
      if (!enough) throw error;
    } finally {
      clearInterval(watch);
      signal?.removeEventListener('abort', abort);
    }
  }

  return { call, ask, send, drain };
}
