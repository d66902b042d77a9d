import { command, integer, list, type Outcome, SHARED, text, toggle } from '@nightshift/cli';
import {
  createMetrics,
  NightshiftError,
  observeS3,
  type Role,
  startHttp,
  startWorker,
  versions,
  type Worker,
} from '@nightshift/core';
import { watchSpotNotice } from './spot.ts';

const ROLES: readonly Role[] = ['plan', 'embed', 'index'];
const SPOT_EVERY_MS = 5_000;

export const workCommand = command({
  name: '',
  about: 'Take jobs of a queue until told to stop: plan slides, embed shards, join and index results.',
  args: { usage: '', min: 0, max: 0 },
  examples: [
    ['nightshift-worker --redis redis://queue:6379 --model models/midnight', 'all roles, on this machine’s device'],
    ['nightshift-worker --roles embed --device cuda:0 --model models/midnight', 'one GPU; the queue is REDIS_URL'],
    ['nightshift-worker --roles plan,index', 'needs no model'],
    ['nightshift-worker --exit-when-empty', 'for a Slurm or Kubernetes job: ends when nothing is left to do'],
  ],
  details: [
    'The first SIGTERM or Ctrl-C hands the shards in flight back and stops within seconds; the second leaves at once.\n' +
      'A worker that is killed loses nothing: another one starts its shards within 35 seconds.',
  ],
  flags: {
    redis: SHARED.redis,
    roles: list({ about: 'what this worker does: plan, embed, index', placeholder: 'ROLES', defaultText: 'all' }),
    model: text({ ...SHARED.model, defaultText: 'the only one in --models' }),
    models: SHARED.models,
    device: SHARED.device,
    batch: SHARED.batch,
    threads: SHARED.threads,
    decodeThreads: SHARED.decodeThreads,
    port: integer({
      unit: '',
      min: 0,
      max: 65_535,
      about: 'port of /metrics, /healthz and /readyz; 0: any free one',
      fallback: 9400,
    }),
    host: SHARED.metricsHost,
    exportQueue: toggle({ about: 'also export the queue’s length: on one worker of a cluster' }),
    exitWhenEmpty: toggle({ about: 'end when no job of any role waits or is active' }),
    idleExit: integer({
      unit: 'seconds',
      min: 1,
      max: 86_400,
      about: 'end after holding no job for so long',
      fallback: null,
      defaultText: 'never',
    }),
    spotNotice: text({
      about: 'watch EC2’s Spot notice at this metadata service, and hand back when it comes',
      placeholder: 'URL',
      defaultText: 'off; on EC2 http://169.254.169.254',
    }),
  },
  async run({ flags, terminal, signal }): Promise<Outcome> {
    const redis = flags.redis ?? process.env.REDIS_URL ?? null;
    if (redis === null)
      throw new NightshiftError('usage', '--redis is missing', {
        next: 'Give --redis redis://host:6379, or set REDIS_URL.',
      });
    const roles = rolesOf(flags.roles);
    const metrics = createMetrics({ version: versions().nightshift, roles });
    observeS3(metrics.s3);
    const drain = new AbortController();
    const draining = AbortSignal.any([signal, drain.signal]);
    let worker: Worker | null = null;
    const http = await startHttp({
      port: flags.port,
      ...(flags.host === null ? {} : { host: flags.host }),
      token: process.env.NIGHTSHIFT_METRICS_TOKEN ?? null,
      metrics,
      // A loop that stands still answers nothing, and an engine that cannot be started again ends the worker.
      alive: () => true,
      ready: () => readiness(worker, draining.aborted),
    });
    terminal.say(`metrics and probes at http://${http.host}:${http.port}/metrics`);
    const spot =
      flags.spotNotice === null
        ? null
        : watchSpotNotice({
            metadata: flags.spotNotice,
            everyMs: SPOT_EVERY_MS,
            onNotice: (action) => {
              terminal.insist(`The instance is taken back (${action}): handing the shards back.`);
              drain.abort();
            },
          });
    try {
      worker = await startWorker(
        {
          redis,
          roles,
          model: flags.model,
          modelDirs: flags.models.length === 0 ? ['models'] : flags.models,
          device: flags.device ?? 'auto',
          threads: flags.threads,
          batch: flags.batch,
          decodeThreads: flags.decodeThreads,
          exitWhenEmpty: flags.exitWhenEmpty,
          idleExitSeconds: flags.idleExit,
        },
        { signal: draining, meter: metrics.meter, onWarning: (message) => terminal.say(message) },
      );
      const { encoder, queue } = worker;
      if (encoder) {
        metrics.attachEncoder({
          get busySeconds() {
            return encoder.busySeconds;
          },
          device: encoder.device,
          model: encoder.model.name,
        });
      }
      if (flags.exportQueue) {
        metrics.attachQueue(queue);
      }
      terminal.say(`ready: ${roles.join(', ')}${encoder ? ` with ${encoder.model.name} on ${encoder.device}` : ''}`);
      await worker.finished;
    } finally {
      spot?.close();
      await http.close();
      metrics.close();
    }
    const how = draining.aborted ? 'drained' : 'no work left';
    return {
      exit: 0,
      data: [],
      notes: [`stopped: ${how}`],
      next: [],
      json: { state: draining.aborted ? 'drained' : 'empty' },
    };
  },
});

/** `--roles plan,embed` and `--roles plan --roles embed` alike. */
function rolesOf(given: readonly string[]): readonly Role[] {
  const words = given.flatMap((word) => word.split(',')).filter((word) => word !== '');
  if (words.length === 0) return ROLES;
  const wrong = words.find((word) => !ROLES.includes(word as Role));
  if (wrong) throw new NightshiftError('usage', `--roles ${wrong}: there are ${ROLES.join(', ')}`);
  return ROLES.filter((role) => words.includes(role));
}

async function readiness(worker: Worker | null, draining: boolean) {
  const reasons: string[] = [];
  if (!worker) reasons.push('starting: the model is being loaded');
  if (draining) reasons.push('draining');
  if (worker) await worker.queue.counts('embed').catch(() => reasons.push('redis: not reachable'));
  return { ready: reasons.length === 0, reasons };
}
