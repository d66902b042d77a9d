import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { path, text } from '../../fixtures/infra.ts';

const manifest = JSON.parse(text('package.json')) as { workspaces: string[]; devDependencies: Record<string, string> };

describe.each(['cpu', 'cuda'])('%s.Dockerfile', (name) => {
  const file = text(`infra/docker/${name}.Dockerfile`);
  const instructions = file
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const install = instructions.findIndex((line) => line.startsWith('RUN npm ci'));

  it('runs the Node that the project pins', () => {
    expect(file).toContain(`ARG NODE_VERSION=${manifest.devDependencies.node}\n`);
  });

  it('installs the locked packages of every workspace, without those for development', () => {
    expect(instructions[install]).toMatch(/^RUN npm ci --omit=dev/);
    const before = instructions.slice(0, install).join('\n');
    for (const workspace of manifest.workspaces) {
      expect(before, workspace).toContain(`COPY ${workspace}/package.json ${workspace}/`);
      const { bin } = JSON.parse(text(`${workspace}/package.json`)) as { bin?: object };
      if (bin) expect(before, workspace).toContain(`COPY ${workspace}/bin ${workspace}/bin`);
    }
  });

  it('copies what is there and what .dockerignore lets through', () => {
    const shown = text('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = instructions
      .filter((line) => line.startsWith('COPY ') && !line.includes('--from'))
      .flatMap((line) => line.split(' ').slice(1, -1))
      .filter((source) => source !== '.');
    expect(copied.length).toBeGreaterThan(5);
    for (const source of copied) {
      expect(existsSync(path(source)), source).toBe(true);
      expect(shown, source).toContain(source.split('/')[0]);
    }
    for (const source of shown) expect(existsSync(path(source)), source).toBe(true);
  });

  it('runs as nobody in particular, and shows its program no shell', () => {
    expect(instructions.filter((line) => line.startsWith('USER')).at(-1)).toBe('USER 65532:65532');
    expect(instructions).toContain('ENTRYPOINT []');
    expect(instructions.at(-1)).toMatch(/^CMD \[/);
  });

  it('holds no binaries of other platforms, and sends nothing home', () => {
    expect(file).toMatch(/rm -r/);
    expect(file).toContain('ORT_DISABLE_TELEMETRY=1');
  });
});

describe('cuda.Dockerfile', () => {
  const file = text('infra/docker/cuda.Dockerfile');

  it('brings CUDA 12 and cuDNN 9, the only ones that ONNX Runtime for Node knows, and its provider', () => {
    expect(file).toMatch(/FROM --platform=linux\/amd64 nvidia\/cuda:12\.\d+\.\d+-cudnn-runtime-/);
    expect(file).toContain('ONNXRUNTIME_NODE_INSTALL=true node node_modules/onnxruntime-node/script/install');
  });

  it('names files and scripts of ONNX Runtime as the installed package does', () => {
    const ort = path('node_modules/onnxruntime-node');
    expect(existsSync(`${ort}/script/install.js`)).toBe(true);
    expect(readdirSync(`${ort}/bin`)).toEqual(['napi-v6']);
    expect(readdirSync(`${ort}/bin/napi-v6`).sort()).toEqual(['darwin', 'linux', 'win32']);
  });
});
