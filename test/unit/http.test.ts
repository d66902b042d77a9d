import { request } from 'node:http';
import { type HttpOptions, type HttpServer, NightshiftError, type Readiness, startHttp } from '@nightshift/core';
import { afterEach, describe, expect, it } from 'vitest';

describe('metrics and probes over HTTP', () => {
  const servers: HttpServer[] = [];
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
  });

  async function serve(options: Partial<HttpOptions> = {}): Promise<HttpServer> {
    const server = await startHttp({
      port: 0,
      metrics: { text: async () => 'up 1\n', contentType: 'text/plain; version=0.0.4' },
      ready: () => ({ ready: true, reasons: [] }),
      alive: () => true,
      ...options,
    });
    servers.push(server);
    return server;
  }

  /** With `node:http`: `fetch` lets nobody choose the Host header. */
  function ask(
    { port }: HttpServer,
    path: string,
    options: { method?: string; headers?: Record<string, string> } = {},
  ): Promise<{ status: number; type: string; body: string }> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port, path, agent: false, ...options }, async (answer) => {
        let body = '';
        for await (const chunk of answer) body += chunk;
        resolve({ status: answer.statusCode!, type: answer.headers['content-type'] ?? '', body });
      });
      asked.on('error', reject);
      asked.end();
    });
  }

  it('gives the metrics with the type that Prometheus wants', async () => {
    const server = await serve();
    expect(await ask(server, '/metrics')).toEqual({ status: 200, type: 'text/plain; version=0.0.4', body: 'up 1\n' });
    expect((await ask(server, '/metrics?x=1')).status).toBe(200);
    expect(await ask(server, '/metrics', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  it('is alive until a restart would help', async () => {
    let alive = true;
    const server = await serve({ alive: () => alive });
    expect((await ask(server, '/healthz')).status).toBe(200);
    alive = false;
    expect((await ask(server, '/healthz')).status).toBe(503);
  });

  it('says why it is not ready', async () => {
    let readiness: Readiness = { ready: false, reasons: ['redis: not connected'] };
    const server = await serve({ ready: () => readiness });
    const answer = await ask(server, '/readyz');
    expect([answer.status, answer.type, JSON.parse(answer.body)]).toEqual([503, 'application/json', readiness]);
    readiness = { ready: true, reasons: [] };
    expect((await ask(server, '/readyz')).status).toBe(200);
  });

  it('is not ready when the check itself fails, and tells its code only', async () => {
    const server = await serve({
      ready: async () => {
        throw new NightshiftError('slide-not-found', 'smith-john.svs is gone');
      },
    });
    const answer = await ask(server, '/readyz');
    expect([answer.status, JSON.parse(answer.body)]).toEqual([503, { ready: false, reasons: ['slide-not-found'] }]);
  });

  it('knows no other path and no other method', async () => {
    const server = await serve();
    for (const path of ['/', '/metrics/', '/../etc/passwd', '//metrics', '/readyz%00']) {
      expect((await ask(server, path)).status, path).toBe(404);
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      expect((await ask(server, '/metrics', { method })).status, method).toBe(405);
    }
  });

  it('wants the token for the metrics, and for the probes none', async () => {
    const server = await serve({ token: 'a-long-secret' });
    const withToken = (authorization: string) => ask(server, '/metrics', { headers: { authorization } });
    expect((await ask(server, '/metrics')).status).toBe(401);
    expect((await withToken('Bearer a-long-secreT')).status).toBe(401);
    expect((await withToken('Basic a-long-secret')).status).toBe(401);
    expect((await withToken('Bearer a-long-secret')).status).toBe(200);
    expect((await ask(server, '/healthz')).status).toBe(200);
    expect((await ask(server, '/readyz')).status).toBe(200);
  });

  it('answers on loopback only to who asks for loopback: a web page cannot reach it by a name of its own', async () => {
    const server = await serve();
    const asking = (host: string) => ask(server, '/metrics', { headers: { host } });
    for (const host of ['evil.example', 'evil.example:9400', '127.0.0.1.evil.example', '10.0.0.1', 'x@localhost']) {
      expect((await asking(host)).status, host).toBe(421);
    }
    for (const host of ['localhost:9400', '127.0.0.1', '[::1]:9400', 'localhost']) {
      expect((await asking(host)).status, host).toBe(200);
    }
  });

  it('listens beyond loopback only when told to, and then answers to any name', async () => {
    expect((await serve()).host).toBe('127.0.0.1');
    const open = await serve({ host: '0.0.0.0' });
    expect((await ask(open, '/metrics', { headers: { host: 'worker-3.cluster:9400' } })).status).toBe(200);
  });

  it('says which port is taken', async () => {
    const { port } = await serve();
    await expect(serve({ port })).rejects.toMatchObject({
      code: 'port-unavailable',
      message: `cannot listen on 127.0.0.1 port ${port}: EADDRINUSE`,
    });
  });

  it('lives on when the metrics fail', async () => {
    const text = async () => {
      throw new Error('broken');
    };
    const server = await serve({ metrics: { text, contentType: 'text/plain' } });
    expect((await ask(server, '/metrics')).status).toBe(500);
    expect((await ask(server, '/healthz')).status).toBe(200);
  });
});
