import { Worker } from 'node:worker_threads';
import { type ErrorRecord, fromErrorRecord, NightshiftError } from '../errors.ts';
import type { JpegChoice } from './codec/jpeg.ts';
import type { Task, TaskKind, TaskResult } from './decode-tasks.ts';
import { ReadMemory } from './memory.ts';

export interface DecodePoolOptions {
  readonly threads: number;
  /** Seconds a task may take before its thread is given up. */
  readonly deadlineSeconds?: number;
  readonly jpeg?: JpegChoice;
  /** The threads' script; another one only in tests. */
  readonly script?: URL;
}

/** Threads that decode. Any number of `readTiles` calls share one; tasks are served in the order they come. */
export interface DecodePool {
  readonly threads: number;
  /** Threads at work right now. */
  readonly busy: number;
  readonly memory: ReadMemory;
  /**
   * Runs a task on the next free thread. `transfer` are buffers to hand over instead of copying them. A thread that dies or
   * exceeds the deadline fails its own task only, with `tile-decode-crash`, and is replaced.
   */
  run<K extends TaskKind>(
    kind: K,
    task: Task<K>,
    options?: { readonly transfer?: readonly ArrayBuffer[]; readonly signal?: AbortSignal | undefined },
  ): Promise<TaskResult<K>>;
  /** Ends the threads. What still runs or waits is rejected. */
  close(): Promise<void>;
}

/** The same extension as this file: sources run as they are, a build holds JavaScript. */
const SCRIPT = new URL(`./decode-worker${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url);

interface Job {
  readonly message: { readonly kind: TaskKind; readonly task: Task<TaskKind> };
  readonly transfer: readonly ArrayBuffer[];
  readonly signal: AbortSignal | undefined;
  resolve(result: TaskResult<TaskKind>): void;
  reject(error: unknown): void;
}

interface Thread {
  readonly worker: Worker;
  job: Job | null;
  ready: boolean;
  deadline: NodeJS.Timeout | undefined;
}

/** What a thread says: that it has loaded its decoder, that it cannot, or what became of its task. */
export type ThreadMessage =
  | { readonly type: 'ready' }
  | { readonly type: 'fatal'; readonly error: ErrorRecord }
  | { readonly type: 'done'; readonly result: TaskResult<TaskKind> }
  | { readonly type: 'failed'; readonly error: ErrorRecord };

export function createDecodePool(options: DecodePoolOptions): DecodePool {
  const { threads, deadlineSeconds = 5, jpeg = 'auto', script = SCRIPT } = options;
  const all = new Set<Thread>();
  const idle: Thread[] = [];
  const waiting: Job[] = [];
  const memory = new ReadMemory(threads + 2);
  let stopped: NightshiftError | null = null;

  function start(): Thread {
    const { NIGHTSHIFT_JPEG } = process.env;
    const env = NIGHTSHIFT_JPEG === undefined ? {} : { NIGHTSHIFT_JPEG };
    const worker = new Worker(script, { name: 'decode', env, execArgv: [], workerData: { jpeg } });
    const thread: Thread = { worker, job: null, ready: false, deadline: undefined };
    worker.unref();
    worker.on('message', (message: ThreadMessage) => {
      if (message.type === 'ready') {
        thread.ready = true;
        if (thread.job !== null) limit(thread);
        return;
      }
      if (message.type === 'fatal') return void stop(fromErrorRecord(message.error));
      const job = finish(thread);
      if (all.has(thread)) idle.push(thread);
      if (message.type === 'done') job?.resolve(message.result);
      else job?.reject(fromErrorRecord(message.error));
      dispatch();
    });
    worker.on('error', (error: Error) => give(thread, error.message));
    worker.on('exit', (code) => give(thread, `exit code ${code}`));
    all.add(thread);
    return thread;
  }

  function limit(thread: Thread): void {
    thread.deadline = setTimeout(() => give(thread, `no answer in ${deadlineSeconds} s`), deadlineSeconds * 1_000);
  }

  /** Takes the job from a thread that no longer works on it. */
  function finish(thread: Thread): Job | null {
    clearTimeout(thread.deadline);
    thread.worker.unref();
    const { job } = thread;
    thread.job = null;
    return job;
  }

  /** Gives a thread up: its job fails, the next one starts a new thread. */
  function give(thread: Thread, reason: string): void {
    if (!all.delete(thread)) return;
    const at = idle.indexOf(thread);
    if (at >= 0) idle.splice(at, 1);
    // Not awaited: a thread that hangs in native code ends only when that returns.
    void thread.worker.terminate();
    finish(thread)?.reject(new NightshiftError('tile-decode-crash', `the decoder died (${reason})`));
    dispatch();
  }

  function dispatch(): void {
    while (waiting.length > 0) {
      const thread = idle.pop() ?? (all.size < threads ? start() : undefined);
      if (thread === undefined) return;
      const job = waiting.shift()!;
      if (job.signal?.aborted) {
        job.reject(job.signal.reason);
        idle.push(thread);
        continue;
      }
      thread.job = job;
      thread.worker.ref();
      if (thread.ready) limit(thread);
      thread.worker.postMessage(job.message, job.transfer);
    }
  }

  /** Ends everything: what waits, runs or comes later fails with `error`. */
  async function stop(error: NightshiftError): Promise<void> {
    stopped ??= error;
    for (const job of waiting.splice(0)) job.reject(stopped);
    const ended: Promise<number>[] = [];
    for (const thread of all) {
      finish(thread)?.reject(stopped);
      ended.push(thread.worker.terminate());
    }
    all.clear();
    idle.length = 0;
    memory.clear();
    await Promise.all(ended);
  }

  return {
    threads,
    memory,
    get busy() {
      return all.size - idle.length;
    },
    run(kind, task, { transfer = [], signal } = {}) {
      return new Promise((resolve, reject) => {
        if (stopped !== null) return reject(stopped);
        const message = { kind, task };
        waiting.push({ message, transfer, signal, resolve: resolve as Job['resolve'], reject });
        dispatch();
      });
    },
    close: () => stop(new NightshiftError('internal', 'the decode pool was closed')),
  };
}
