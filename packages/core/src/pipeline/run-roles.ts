import type { Encoder } from '../model/encoder.ts';
import type { Role } from '../queue/queue.ts';
import type { Workplace } from './context.ts';
import { createEmbedRole, type EmbedRole } from './embed-role.ts';
import { runIndexRole } from './index-role.ts';
import { runPlanRole } from './plan-role.ts';
import type { Stage } from './progress.ts';

export interface RolesOptions {
  readonly roles: ReadonlySet<Role>;
  /** Called when the first shard waits: a process with nothing to embed loads no model. */
  readonly openEncoder: () => Promise<Encoder>;
  /** Shards read at once. */
  readonly readers: number;
  /** Stop once no job of any role waits or is active. Else only the signal stops the roles. */
  readonly untilIdle: boolean;
  /** Resolves when every job that nobody but the caller knows of was added: before that no queue is idle for good. */
  readonly fed?: Promise<void>;
}

export interface RolesRunning {
  /** Resolves when every role has stopped; rejects with the error that stopped this process. */
  readonly finished: Promise<{ readonly deviceBusy: number | null }>;
  /** What holds this process back right now. */
  stage(): Stage | null;
}

/** Any set of roles in one process, over any queue. The queue is closed at the end. */
export function runRoles(work: Workplace, options: RolesOptions, outer: AbortSignal): RolesRunning {
  const { queue } = work;
  const stop = new AbortController();
  const signal = AbortSignal.any([outer, stop.signal]);
  let embedRole: EmbedRole | null = null;
  let failure: { error: unknown } | null = null;
  let deviceBusy: number | null = null;

  async function embed(): Promise<void> {
    const first = await queue.take('embed', signal);
    if (!first) return;
    await first.release();
    const encoder = await options.openEncoder();
    const started = performance.now();
    const busy = encoder.busySeconds;
    try {
      embedRole = createEmbedRole(work, encoder, { readers: options.readers });
      await embedRole.run(signal);
    } finally {
      deviceBusy = (encoder.busySeconds - busy) / ((performance.now() - started) / 1000);
      await encoder.close();
    }
  }

  const start: Record<Role, () => Promise<void>> = {
    plan: () => runPlanRole(work, signal),
    embed,
    index: () => runIndexRole(work, signal),
  };

  /** The first role that fails stops the others. */
  async function guard(role: Role): Promise<void> {
    try {
      await start[role]();
    } catch (error) {
      failure ??= { error };
      stop.abort(error);
    }
  }

  async function finish(): Promise<{ deviceBusy: number | null }> {
    const working = Promise.all([...options.roles].map(guard));
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const idle = (options.fed ?? Promise.resolve()).then(() => queue.idle());
    // Waited for below, or by nobody.
    idle.catch(() => {});
    try {
      await (options.untilIdle ? Promise.race([idle, aborted]) : aborted);
    } catch (error) {
      failure ??= { error };
    }
    stop.abort();
    // Closing waits for what is in work, within bounds: nothing that a role waits for of the queue holds up the end.
    await Promise.all([working, queue.close()]);
    if (failure) throw failure.error;
    return { deviceBusy };
  }

  return {
    finished: finish(),
    stage: () => embedRole?.stage() ?? (options.roles.has('plan') ? 'planning' : null),
  };
}
