import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
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

/** A Docker client whose daemon answers. */
export const dockerRuns = (): boolean =>
  onPath('docker') !== null && spawnSync('docker', ['info'], { stdio: 'ignore' }).status === 0;

/** A port that was free just now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
