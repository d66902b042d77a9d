import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { faultsOf, path, text } from '../../fixtures/infra.ts';

// biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects; the tests state what they hold
type Resource = any;

const kubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).status === 0;
const documents = (yaml: string): Resource[] => parseAllDocuments(yaml).map((document) => document.toJS());
const built = (folder: string): Resource[] =>
  documents(execFileSync('kubectl', ['kustomize', path('infra/kubernetes', folder)], { encoding: 'utf8' }));
const podsOf = (resources: Resource[]): [string, Resource][] =>
  resources
    .filter(({ spec }) => spec?.template?.spec)
    .map(({ kind, metadata, spec }) => [`${kind} ${metadata.name ?? metadata.generateName}`, spec.template.spec]);

function checkPods(resources: Resource[]): void {
  const pods = podsOf(resources);
  expect(pods.length).toBeGreaterThan(0);
  for (const [name, pod] of pods) {
    expect(pod.enableServiceLinks, name).toBe(false);
    expect(pod.automountServiceAccountToken, name).toBe(false);
    expect(pod.securityContext, name).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    for (const container of pod.containers) {
      expect(container.securityContext, name).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(container.resources.limits.memory, name).toBeDefined();
      expect(container.image, name).toMatch(/:[^:]+$/);
      if (container.image.startsWith('nightshift:')) expect(faultsOf(container.args), name).toEqual([]);
      const volumes = new Set(pod.volumes?.map((volume: Resource) => volume.name) ?? ['data']);
      for (const mount of container.volumeMounts) expect(volumes, name).toContain(mount.name);
    }
  }
}

describe('Kubernetes', () => {
  describe.runIf(kubectl)('built with kustomize', () => {
    it('base: every pod is restricted, and starts with flags that the program has', () => {
      const base = built('base');
      checkPods(base);
      expect(base.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual(
        expect.arrayContaining(['Deployment planner', 'Deployment worker', 'StatefulSet redis', 'NetworkPolicy redis']),
      );
      for (const { kind, metadata } of base) if (kind !== 'Namespace') expect(metadata.namespace).toBe('nightshift');
    });

    it('base: probes ask what the programs serve, and a drain fits the notice of a spot node', () => {
      for (const [name, pod] of podsOf(built('base')).filter(([title]) => title.startsWith('Deployment'))) {
        const [container] = pod.containers;
        expect(container.startupProbe.httpGet.path, name).toBe('/healthz');
        expect(container.livenessProbe.httpGet.path, name).toBe('/healthz');
        expect(container.readinessProbe.httpGet.path, name).toBe('/readyz');
        expect(container.args, name).toEqual(expect.arrayContaining(['--host', '0.0.0.0', '--port', '9400']));
        expect(pod.terminationGracePeriodSeconds, name).toBe(15);
      }
    });

    it('base: one replica exports the queue', () => {
      const exporters = built('base').filter(({ spec }) =>
        spec?.template?.spec.containers.some(({ args }: Resource) => args?.includes('--export-queue')),
      );
      expect(exporters.map(({ metadata, spec }) => [metadata.name, spec.replicas])).toEqual([['planner', 1]]);
    });

    it('gpu-spot: a GPU and the CUDA image a worker, scaled by KEDA from none', () => {
      const overlay = built('overlays/gpu-spot');
      checkPods(overlay);
      const worker = overlay.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'worker');
      const [container] = worker.spec.template.spec.containers;
      expect([container.image, container.resources.limits['nvidia.com/gpu']]).toEqual(['nightshift:cuda', '1']);
      expect(container.args).toContain('cuda:0');
      expect(worker.spec.replicas).toBeUndefined();
      const scaled = overlay.find(({ kind }) => kind === 'ScaledObject');
      expect(scaled.spec.scaleTargetRef.name).toBe(worker.metadata.name);
      expect(scaled.spec.minReplicaCount).toBe(0);
      const [{ metadata }] = scaled.spec.triggers;
      expect(metadata.query).toMatch(/waiting\|active/);
      expect(metadata.ignoreNullValues).toBe('false');
    });
  });

  it('the Job that submits is restricted too, and is one of the pods that may reach Redis', () => {
    const [job] = documents(text('infra/kubernetes/submit.yaml'));
    checkPods([job]);
    const policies = documents(text('infra/kubernetes/base/network-policy.yaml'));
    const [{ from }] = policies.find(({ metadata }) => metadata.name === 'redis').spec.ingress;
    expect(from[0].podSelector.matchExpressions[0].values).toContain(job.spec.template.metadata.labels.app);
  });

  it('Redis keeps what it was told and evicts nothing, as under Docker', () => {
    const redis = documents(text('infra/kubernetes/base/redis.yaml')).find(({ kind }) => kind === 'StatefulSet');
    const compose = parse(text('docker-compose.yml'), { merge: true }).services.redis;
    expect(['redis-server', ...redis.spec.template.spec.containers[0].args]).toEqual(compose.command);
    expect(redis.spec.template.spec.containers[0].image).toBe(compose.image);
  });
});
