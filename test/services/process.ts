import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { delimiter, join } from 'node:path';

/** A server that a test started: gone when the test's process ends, at the latest. */
export interface Service {
  readonly pid: number;
  /** Sends a signal and waits until the process is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts a server and waits until its output matches `ready`; fails with that output when it ends before. */
export async function startService(command: string, args: readonly string[], ready: RegExp): Promise<Service> {
  const child = spawn(command, [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const endWithUs = () => child.kill('SIGKILL');
  process.once('exit', endWithUs);
  let output = '';
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string) => {
      process.off('exit', endWithUs);
      reject(new Error(`${command} ${args.join(' ')}: ${why}\n${output}`));
    };
    const listen = (chunk: Buffer) => {
      // Kept flowing after the match too: a full pipe would stop the server.
      if (output.length < 100_000) output += chunk;
      if (ready.test(output)) resolve();
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => fail(`ended with ${signal ?? code} before it was ready`));
  });
  return {
    pid: child.pid!,
    async stop(signal = 'SIGTERM') {
      process.off('exit', endWithUs);
      await stopped(child, signal);
    },
  };
}

async function stopped(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill(signal);
  // A frozen process hears no SIGTERM.
  if (signal !== 'SIGKILL') child.kill('SIGCONT');
  await exit;
}

/** The path of a program, or null. */
export function onPath(name: string): string | null {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder === '') continue;
    try {
      const path = join(folder, name);
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  return null;
}

/** True when the command ends with 0. Its output is shown only when it fails. */
export function succeeds(command: string, args: readonly string[]): boolean {
  const { status, stderr } = spawnSync(command, [...args], { encoding: 'utf8' });
  if (status !== 0 && stderr) process.stderr.write(stderr);
  return status === 0;
}

/** The same of a command that asks a package registry, which may hiccup: three tries, some seconds apart. */
export function installs(command: string, args: readonly string[]): boolean {
  for (const pauseMs of [0, 5_000, 15_000]) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
    if (succeeds(command, args)) return true;
  }
  return false;
}

/** A Docker client whose daemon answers. */
export const dockerRuns = (): boolean =>
  onPath('docker') !== null && spawnSync('docker', ['info'], { stdio: 'ignore' }).status === 0;

/** Below the ports that systems give to outgoing connections. */
const PORTS = { from: 20_000, to: 32_000 } as const;
/** Ports beside those that were handed out, listened on for as long as this process lives. */
const claims = new Map<number, Server>();

/**
 * A port for a server that another process starts, also again and again: this process's own until it ends. A port that the system
 * chooses would be free for a moment only: while the server starts, or is down on purpose, any connection may be given it, even one
 * that knocks at that very port. So it is an even one out of the system's reach, claimed by listening on the odd one after it.
 */
export async function freePort(): Promise<number> {
  const pairs = (PORTS.to - PORTS.from) / 2;
  const start = process.pid % pairs;
  for (let i = 0; i < pairs; i++) {
    const port = PORTS.from + 2 * ((start + i) % pairs);
    if (claims.has(port)) continue;
    const claim = await listenOn(port + 1);
    if (claim === null) continue;
    const here = await listenOn(port);
    if (here === null) {
      claim.close();
      continue;
    }
    here.close();
    await once(here, 'close');
    claims.set(port, claim.unref());
    return port;
  }
  throw new Error(`no port from ${PORTS.from} to ${PORTS.to} is free`);
}

async function listenOn(port: number): Promise<Server | null> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return null;
    throw error;
  }
}
