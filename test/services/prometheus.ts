import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, installs, onPath, startService } from './process.ts';

export interface PrometheusService {
  readonly url: string;
  /** Instant query; answers [labels, value] of each series. */
  query(expression: string): Promise<(readonly [Readonly<Record<string, string>>, number])[]>;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
}

/** A Prometheus on a free port with a directory of its own. `config` is the text of prometheus.yml. */
export async function startPrometheus({ config }: { readonly config: string }): Promise<PrometheusService> {
  const program = programOfPrometheus('prometheus');
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-prometheus-'));
  await writeFile(join(dir, 'prometheus.yml'), config);
  const port = await freePort();
  const service = await startService(
    program,
    [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    /Server is ready to receive web requests/,
  );
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    async query(expression) {
      const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
      const answer = (await response.json()) as {
        error?: string;
        data: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      if (!response.ok) throw new Error(`${expression}: ${answer.error}`);
      return answer.data.result.map(({ metric, value }) => [metric, Number(value[1])] as const);
    },
    async stop() {
      await service.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Runs promtool to its end: what it printed, and whether it was content. */
export function promtool(args: readonly string[], input = ''): { readonly ok: boolean; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(programOfPrometheus('promtool'), [...args], { input, encoding: 'utf8' });
  return { ok: status === 0, output: stdout + stderr };
}

/** Where one of its two programs lies. */
export function programOfPrometheus(name: 'prometheus' | 'promtool'): string {
  const program = onPath(name) ?? (installPrometheus() ? onPath(name) : null);
  if (program) return program;
  throw new Error(
    `The tests need ${name} and found none. Type one of:\n` +
      '  sudo apt-get install prometheus          (Debian, Ubuntu: brings promtool too)\n' +
      '  brew install prometheus                  (macOS)',
  );
}

/** Installs prometheus where that can be done unasked: on Debian as root, as in a CI container. */
export function installPrometheus(): boolean {
  if (process.getuid?.() !== 0 || onPath('apt-get') === null) return false;
  if (!installs('apt-get', ['update', '-qq'])) return false;
  return installs('env', [
    ...['DEBIAN_FRONTEND=noninteractive', 'RUNLEVEL=1'],
    ...['apt-get', 'install', '-qq', '-y', '--no-install-recommends', 'prometheus'],
  ]);
}
