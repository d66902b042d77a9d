import { parentPort, workerData } from 'node:worker_threads';
import { isNightshiftError, toErrorRecord } from '../errors.ts';
import type { JpegChoice } from './codec/jpeg.ts';
import type { ThreadMessage } from './decode-pool.ts';
import { createTaskRunner, type Task, type TaskKind, type TaskResult, type TaskRunner } from './decode-tasks.ts';

/** Body of a thread of the decode pool. It gets compressed bytes and gives pixels; it opens nothing and holds no credentials. */
const port = parentPort!;
const post = (message: ThreadMessage) => port.postMessage(message);

try {
  serve(await createTaskRunner((workerData as { readonly jpeg: JpegChoice }).jpeg));
} catch (error) {
  post({ type: 'fatal', error: toErrorRecord(error) });
}

function serve(runner: TaskRunner): void {
  port.on('message', async ({ kind, task }: { kind: TaskKind; task: Task<TaskKind> }) => {
    try {
      const result = await (runner[kind] as (task: Task<TaskKind>) => Promise<TaskResult<TaskKind>>)(task);
      post({ type: 'done', result });
    } catch (error) {
      if (!isNightshiftError(error)) throw error;
      post({ type: 'failed', error: toErrorRecord(error) });
    }
  });
  post({ type: 'ready' });
}
