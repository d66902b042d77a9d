import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMetrics } from '@nightshift/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parse } from 'yaml';
import { composeQueue } from '../../packages/core/src/compose.ts';
import { path, text } from '../fixtures/infra.ts';
import { freePort, startService } from '../services/process.ts';
import { programOfPrometheus, promtool } from '../services/prometheus.ts';
import { startRedis } from '../services/redis.ts';

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
}

const { services } = parse(text('docker-compose.yml'), { merge: true }) as {
  services: Record<string, { command: string[] }>;
};
const dashboard = JSON.parse(text('infra/grafana/dashboards/nightshift.json')) as {
  panels: Panel[];
  templating: { list: { query: string | { query: string } }[] };
};
const alerts = parse(text('infra/prometheus/alerts.yml')) as {
  groups: { rules: { alert: string; expr: string; annotations: { summary: string; action: string } }[] }[];
};
const rules = alerts.groups.flatMap((group) => group.rules);
const scaler = parse(text('infra/kubernetes/overlays/gpu-spot/scaled-object.yaml'));
const expressions = [
  ...dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const)),
  ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ['KEDA', scaler.spec.triggers[0].metadata.query as string] as const,
];

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-infra-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

describe('Prometheus', () => {
  it('takes the configuration and the rules', () => {
    expect(promtool(['check', 'config', path('infra/prometheus/prometheus.yml')])).toMatchObject({ ok: true });
  });

  it('raises the alerts when it should, and not when it should not', () => {
    const { ok, output } = promtool(['test', 'rules', path('infra/prometheus/alerts.test.yml')]);
    expect(ok, output).toBe(true);
  });

  it('tells with every alert what to do', () => {
    for (const { alert, annotations } of rules) {
      expect(
        [annotations.summary, annotations.action].every((line) => line.length > 20),
        alert,
      ).toBe(true);
    }
  });

  it('starts with the command of the compose file, and finds nothing wrong with a rule', async () => {
    const dir = await folder();
    const port = await freePort();
    const words = services.prometheus.command.map((word) =>
      word.replace('=/etc/prometheus', `=${path('infra/prometheus')}`).replace('=/prometheus', `=${dir}`),
    );
    const listen = `--web.listen-address=127.0.0.1:${port}`;
    const service = await startService(programOfPrometheus('prometheus'), [...words, listen], /Server is ready/);
    onTestFinished(() => service.stop());
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/rules`);
    const { data } = (await answer.json()) as { data: { groups: { rules: { health: string }[] }[] } };
    const health = data.groups.flatMap((group) => group.rules.map((rule) => rule.health));
    expect(health).toHaveLength(rules.length);
    expect(health).not.toContain('err');
  });
});

describe('the dashboard, the alerts and the scaler', () => {
  it('ask in expressions that Prometheus can parse', async () => {
    const file = join(await folder(), 'expressions.json');
    const parsed = expressions.map(([title, expr], i) => ({
      record: `check:${i}`,
      labels: { panel: title.replaceAll(/\W/g, '_') },
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$run', '.*'),
    }));
    // JSON is YAML.
    await writeFile(file, JSON.stringify({ groups: [{ name: 'all', rules: parsed }] }));
    const { ok, output } = promtool(['check', 'rules', file]);
    expect(ok, output).toBe(true);
    expect(output).toContain(`${expressions.length} rules found`);
  });

  it('ask for series that there are', async () => {
    const metrics = createMetrics({ version: '0', roles: [] });
    onTestFinished(() => metrics.close());
    const counts = { waiting: 0, active: 0, dead: 0 };
    metrics.attachQueue({ counts: async () => counts, oldestWaitingSeconds: async () => 0 });
    metrics.attachEncoder({ busySeconds: 0, device: 'cpu', model: 'm' });
    metrics.attachRun('r', () => ({ expected: 0, committed: 0 }));
    const known = new Set(
      [...(await metrics.text()).matchAll(/^# TYPE (\S+) (\S+)/gm)].flatMap(([, name, type]) =>
        type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
      ),
    );
    const variables = dashboard.templating.list.map(({ query }) => (typeof query === 'string' ? query : query.query));
    for (const [title, expr] of [...expressions, ...variables.map((query) => ['variable', query] as const)]) {
      for (const [name] of expr.matchAll(/\b(nightshift|process)_\w+/g)) expect(known, title).toContain(name);
    }
  });

  it('show what an operator asks for, in panels that do not overlap', () => {
    const rows = dashboard.panels.filter(({ type }) => type === 'row').map(({ title }) => title);
    expect(rows).toHaveLength(5);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    for (const { gridPos, title } of dashboard.panels) expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
  });
});

describe('Redis, started with the command of the compose file', () => {
  it('is one that the queue accepts', async () => {
    const [, ...args] = services.redis.command;
    const redis = await startRedis({ args });
    onTestFinished(() => redis.stop());
    const queue = await composeQueue(redis.url, {});
    expect(await queue.counts('embed')).toMatchObject({ waiting: 0, active: 0 });
    await queue.close();
  });
});
