import { fork } from 'node:child_process';
import { extname, join } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { type Calls, createCalls, type Engine, type EngineEvents } from './calls.ts';
import type { LoadRequest, Reply, RunRequest } from './onnx-child.ts';

const STDERR_TAIL = 2000;

/** A graph in an inference process. */
export interface LoadedGraph extends Calls {
  /** Execution provider in use: `cpu`, `cuda:0`, `webgpu`. */
  readonly device: string;
}

/**
 * Loads a graph with ONNX Runtime, in a forked process (`onnx-child.ts`). Nothing is checked: the files are the caller's.
 *
 * @throws NightshiftError `device-unavailable`, `encoder-failed`, `encoder-out-of-memory`; from `run` the latter two
 */
export async function loadGraph(load: LoadRequest, lookAhead: number): Promise<LoadedGraph> {
  let used = load.device;
  const calls = await createCalls(async (events) => {
    const engine = await startEngine({ ...load, device: used }, events);
    used = engine.device;
    return engine;
  }, lookAhead);
  return {
    device: used,
    get engine() {
      return calls.engine;
    },
    get busySeconds() {
      return calls.busySeconds;
    },
    run: calls.run,
    close: calls.close,
  };
}

/** Forks the engine and waits until it has loaded the graph. */
async function startEngine(load: LoadRequest, { onOutcome, onDeath }: EngineEvents): Promise<Engine> {
  const child = fork(join(import.meta.dirname, `onnx-child${extname(import.meta.filename)}`), {
    serialization: 'advanced',
    // A parent under a test runner or a debugger has flags that are not for the child.
    execArgv: [],
    env: childEnvironment(process.env),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  const { promise: exited, resolve: tellExit } = Promise.withResolvers<string>();
  child.once('exit', (code, signal) => {
    const how = signal ? `killed by ${signal}` : `exit code ${code}`;
    tellExit(stderr.trim() ? `${how}: ${stderr.trim()}` : how);
  });
  // A process that cannot be started gives no exit.
  child.once('error', (error) => tellExit(error.message));
  const stop = async () => {
    if (child.connected) child.disconnect();
    await exited;
  };

  child.send(load, () => {});
  const { promise: replied, resolve: tellReply } = Promise.withResolvers<Reply>();
  child.once('message', tellReply);
  const first = await Promise.race([replied, exited]);
  if (typeof first === 'string') {
    throw new NightshiftError('encoder-failed', `the inference process ended while it loaded ${load.graph} (${first})`);
  }
  if (first.type !== 'loaded') {
    await stop();
    throw loadError(load, first);
  }
  // 'dead' from the moment of the exit: a reply that is still in the channel must not be taken for the next engine's.
  let state: 'alive' | 'stopping' | 'dead' = 'alive';
  child.on('message', (reply: Reply) => {
    if (state !== 'dead' && reply.type !== 'loaded') onOutcome(reply);
  });
  void exited.then((why) => {
    const expected = state === 'stopping';
    state = 'dead';
    if (!expected) onDeath(why);
  });
  return {
    pid: child.pid ?? null,
    device: first.device,
    // A send that fails means that the child is gone, which `exited` tells.
    post: ({ tiles, count, outputs }) => child.send({ tiles, count, outputs } as RunRequest, () => {}),
    stop: () => {
      state = 'stopping';
      return stop();
    },
  };
}

function loadError({ graph, device }: LoadRequest, reply: Reply): NightshiftError {
  const { message, outOfMemory } = reply as Extract<Reply, { type: 'failed' }>;
  const code = outOfMemory
    ? 'encoder-out-of-memory'
    : /^(auto|cpu)$/.test(device)
      ? 'encoder-failed'
      : 'device-unavailable';
  return new NightshiftError(code, `${graph} cannot be loaded on ${device}: ${message}`);
}

const SECRET = /^(AWS|REDIS|AZURE|GOOGLE|HF|NIGHTSHIFT)_|TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY/i;

/** What the child inherits: no credentials, no flags of the parent's Node, and ONNX Runtime's telemetry off. */
export function childEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !SECRET.test(name) && name !== 'NODE_OPTIONS');
  return { ...Object.fromEntries(kept), ORT_DISABLE_TELEMETRY: '1' };
}
