import type { Encoder } from '../model/encoder.ts';
import type { VectorStore } from '../store/store.ts';
import type { RunContext } from './context.ts';
import { createEmbedRole, type EmbedRole } from './embed-role.ts';
import { runIndexRole } from './index-role.ts';
import { runPlanRole } from './plan-role.ts';
import type { Stage } from './progress.ts';

export interface Roles {
  /** Called when the first shard waits: a run with nothing left to embed loads no model. */
  readonly openEncoder: () => Promise<Encoder>;
  readonly store: VectorStore | null;
  /** Shards read at once. */
  readonly readers: number;
}

export interface RolesRunning {
  /** Resolves when the queue is idle or the signal aborted, and every role has stopped; rejects with the error that stopped the run. */
  readonly finished: Promise<{ readonly deviceBusy: number }>;
  stage(): Stage | null;
}

/** The three roles in one process, over any queue, until nothing is left to do. */
export function runRoles(context: RunContext, roles: Roles, outer: AbortSignal): RolesRunning {
  const { queue } = context;
  const stop = new AbortController();
  const signal = AbortSignal.any([outer, stop.signal]);
  let embedRole: EmbedRole | null = null;
  let planning = 0;
  let failure: { error: unknown } | null = null;
  let deviceBusy = 0;

  async function plan(): Promise<void> {
    planning += 1;
    try {
      await runPlanRole(context, signal);
    } finally {
      planning -= 1;
    }
  }

  async function embed(): Promise<void> {
    const first = await queue.take('embed', signal);
    if (!first) return;
    await first.release();
    const encoder = await roles.openEncoder();
    const started = performance.now();
    try {
      embedRole = createEmbedRole(context, encoder, { readers: roles.readers });
      await embedRole.run(signal);
    } finally {
      deviceBusy = encoder.busySeconds / ((performance.now() - started) / 1000);
      await encoder.close();
    }
  }

  /** The first role that fails stops the others. */
  async function guard(role: Promise<void>): Promise<void> {
    try {
      await role;
    } catch (error) {
      failure ??= { error };
      stop.abort(error);
    }
  }

  async function finish(): Promise<{ deviceBusy: number }> {
    const working = Promise.all([guard(plan()), guard(embed()), guard(runIndexRole(context, roles.store, signal))]);
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    await Promise.race([queue.idle(), aborted]);
    await queue.close();
    await working;
    if (failure) throw failure.error;
    return { deviceBusy };
  }

  return {
    finished: finish(),
    stage: () => embedRole?.stage() ?? (planning > 0 ? 'planning' : 'writing'),
  };
}
