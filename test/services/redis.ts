import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dockerRuns, freePort, installs, onPath, type Service, startService, succeeds } from './process.ts';

export interface RedisOptions {
  /** More arguments of redis-server, e.g. `['--maxmemory', '8mb']`; they win over the ones given here. */
  readonly args?: readonly string[];
}

export interface RedisService {
  readonly url: string;
  readonly port: number;
  /** Of the server as it runs now: another one after `restart`. */
  readonly pid: number;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
  /** Stops the server and starts it on the same port and data: by default as an operator does, or killed with SIGKILL. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  /** Starts the server where it was stopped by `kill`. */
  start(): Promise<void>;
  /** Ends the process; its data stay for `start`. */
  kill(signal?: NodeJS.Signals): Promise<void>;
}

const IMAGE = 'redis:7.4-alpine';
const READY = /Ready to accept connections|Sentinel ID is/;

/**
 * A Redis on a free port with a directory of its own, AOF on and `noeviction`, as a cluster should have it.
 * From redis-server or valkey-server on PATH, else Docker, else apt.
 */
export async function startRedis(options: RedisOptions = {}): Promise<RedisService> {
  const run = redisProgram();
  const port = await freePort();
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-redis-'));
  const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes'];
  const args = [...settings, '--maxmemory-policy', 'noeviction', ...(options.args ?? [])];
  const start = () => run(args, dir, port);
  let service: Service | null = await start();
  const kill = async (signal?: NodeJS.Signals) => {
    await service?.stop(signal);
    service = null;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return service?.pid ?? 0;
    },
    kill,
    async start() {
      service ??= await start();
    },
    async restart(signal) {
      await kill(signal);
      service = await start();
    },
    async stop() {
      await kill('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** The Redis that `REDIS_URL` names, left as it is at the end; else one of the test's own. */
export async function testRedis(): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const url = process.env.REDIS_URL;
  return url ? { url, stop: async () => {} } : startRedis();
}

type Run = (args: readonly string[], dir: string, port: number) => Promise<Service>;

function redisProgram(): Run {
  const program = onPath('redis-server') ?? onPath('valkey-server');
  if (program) return (args, dir) => startService(program, [...args, '--dir', dir], READY);
  if (dockerRuns()) return inDocker;
  if (installRedis() && onPath('redis-server')) return redisProgram();
  throw new Error(
    'The tests need a Redis and found none. Type one of:\n' +
      '  sudo apt-get install redis-server        (Debian, Ubuntu)\n' +
      '  brew install redis                       (macOS)\n' +
      '  start Docker, or set REDIS_URL for the tests that can share a server',
  );
}

const inDocker: Run = async (args, dir, port) => {
  const name = `nightshift-redis-${port}`;
  const docker = ['run', '--rm', '--name', name, '--network', 'host', '--user', `${process.getuid?.() ?? 0}`];
  const server = [...args, '--dir', '/data'];
  const service = await startService(
    'docker',
    [...docker, '-v', `${dir}:/data`, IMAGE, 'redis-server', ...server],
    READY,
  );
  return {
    pid: service.pid,
    async stop(signal = 'SIGTERM') {
      succeeds('docker', ['kill', '--signal', signal, name]);
      await service.stop(signal);
    },
  };
};

/** Installs redis-server where that can be done unasked: on Debian as root, as in a CI container. */
export function installRedis(): boolean {
  if (process.getuid?.() !== 0 || onPath('apt-get') === null) return false;
  if (!installs('apt-get', ['update', '-qq'])) return false;
  return installs('env', [
    ...['DEBIAN_FRONTEND=noninteractive', 'RUNLEVEL=1'],
    ...['apt-get', 'install', '-qq', '-y', '--no-install-recommends', 'redis-server'],
  ]);
}
