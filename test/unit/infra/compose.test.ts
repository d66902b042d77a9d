import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parse } from 'yaml';
import { faultsOf, path, text } from '../../fixtures/infra.ts';

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly profiles?: readonly string[];
  readonly depends_on?: Readonly<Record<string, unknown>> | readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
}

const { services, volumes } = parse(text('docker-compose.yml'), { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};
const ours = Object.entries(services).filter(([, { image }]) => image?.startsWith('nightshift:'));

describe('docker-compose.yml', () => {
  it.each(ours.map(([name, { command }]) => [name, command]))(
    'starts %s with flags that the program has',
    (_, command) => {
      expect(faultsOf(command ?? [])).toEqual([]);
    },
  );

  it('has one exporter of the queue', () => {
    const exporters = ours.filter(([, { command }]) => command?.includes('--export-queue')).map(([name]) => name);
    expect(exporters).toEqual(['planner']);
  });

  it('gives every role to somebody, with a CPU as with a GPU', () => {
    const rolesIn = (profile: string) =>
      ours
        .filter(([, { profiles }]) => !profiles || profiles.includes(profile))
        .flatMap(([, { command = [] }]) => command[command.indexOf('--roles') + 1].split(','))
        .sort();
    expect(rolesIn('cpu')).toEqual(['embed', 'index', 'plan']);
    expect(rolesIn('gpu')).toEqual(['embed', 'index', 'plan']);
  });

  it('runs Redis so that it forgets nothing and evicts nothing', () => {
    const words = services.redis.command ?? [];
    const value = (flag: string) => words[words.indexOf(flag) + 1];
    expect([value('--appendonly'), value('--appendfsync')]).toEqual(['yes', 'everysec']);
    expect(value('--maxmemory-policy')).toBe('noeviction');
  });

  it('waits for services by their health, and mounts what is there', () => {
    for (const [name, { depends_on = {}, volumes: mounts = [] }] of Object.entries(services)) {
      for (const dependency of Array.isArray(depends_on) ? depends_on : Object.keys(depends_on)) {
        expect(services, name).toHaveProperty([dependency]);
      }
      for (const [dependency, how] of Object.entries(Array.isArray(depends_on) ? {} : depends_on)) {
        const { condition } = how as { condition: string };
        if (condition === 'service_healthy')
          expect(services[dependency].healthcheck, `${name}: ${dependency}`).toBeDefined();
      }
      for (const [source] of mounts.map((mount) => mount.split(':'))) {
        if (source.startsWith('./')) expect(existsSync(path(source)), `${name}: ${source}`).toBe(true);
        else if (!source.startsWith('$')) expect(volumes, name).toHaveProperty([source]);
      }
    }
  });

  it('opens ports to this machine only, and pins every image', () => {
    for (const [name, { ports = [], image, build }] of Object.entries(services)) {
      for (const port of ports) expect(port, name).toMatch(/^127\.0\.0\.1:/);
      if (build) expect(existsSync(path(build.dockerfile)), name).toBe(true);
      else expect(image, name).toMatch(/:v?\d+\.\d+/);
    }
  });

  it('takes every right from the containers that read slides', () => {
    expect(ours.map(([name]) => name).sort()).toEqual(['planner', 'producer', 'worker', 'worker-gpu']);
    for (const [name, service] of ours) {
      expect([service.read_only, service.cap_drop], name).toEqual([true, ['ALL']]);
    }
  });

  describe('the step that makes the buckets', () => {
    /** Runs it with an `aws` that knows some buckets, and writes down what it was asked to make. */
    function run(aws: string): { status: number | null; made: string[] } {
      const dir = mkdtempSync(join(tmpdir(), 'nightshift-aws-'));
      onTestFinished(() => rmSync(dir, { recursive: true }));
      writeFileSync(join(dir, 'aws'), `#!/bin/sh\n${aws}\n`);
      chmodSync(join(dir, 'aws'), 0o755);
      writeFileSync(join(dir, 'made'), '');
      const [script] = services.buckets.command ?? [];
      const env = { PATH: `${dir}:${process.env.PATH}`, MADE: join(dir, 'made') };
      // Compose turns `$$` into `$`.
      const { status } = spawnSync('sh', ['-c', script.replaceAll('$$', '$')], { env });
      return { status, made: readFileSync(env.MADE, 'utf8').split('\n').filter(Boolean) };
    }

    it('makes what is missing and leaves what is there', () => {
      const aws =
        'case "$1 $2 $3 $4" in "s3api head-bucket --bucket slides") exit 0;; s3api*) exit 254;; esac; echo "$3" >> "$MADE"';
      expect(run(aws)).toEqual({ status: 0, made: ['s3://results'] });
    });

    it('fails when a bucket cannot be made: nothing starts without it', () => {
      expect(run('exit 1').status).toBe(1);
    });
  });
});

describe('Grafana', () => {
  it('finds its datasource and its dashboard where the compose file mounts them', () => {
    const mounts = new Map(services.grafana.volumes!.map((mount) => [mount.split(':')[1], mount.split(':')[0]]));
    const provider = parse(text('infra/grafana/provisioning/dashboards/nightshift.yml')).providers[0];
    expect(existsSync(path(mounts.get(provider.options.path)!, 'nightshift.json'))).toBe(true);
    expect(mounts.get('/etc/grafana/provisioning')).toBe('./infra/grafana/provisioning');
    const [source] = parse(text('infra/grafana/provisioning/datasources/prometheus.yml')).datasources;
    expect(source.url).toBe('http://prometheus:9090');
    expect(services.grafana.environment?.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH).toBe(
      join(provider.options.path, 'nightshift.json'),
    );
  });
});
