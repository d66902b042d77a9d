import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { dockerRuns, freePort, installs, onPath, type Service, startService, succeeds } from './process.ts';

export interface S3Service {
  readonly endpoint: string;
  /** What a process has in its environment to use it. */
  readonly env: Readonly<Record<string, string>>;
  /** Makes an empty bucket and gives its name. */
  bucket(): Promise<string>;
  put(bucket: string, key: string, body: Uint8Array | string): Promise<void>;
  /** Ends the server; one that was running before is left without the buckets made here. */
  stop(): Promise<void>;
}

const VERSION = '5.2.1';
const READY = /Running on http/;
const venv = join(import.meta.dirname, '../../.venv-test/moto');

/**
 * An S3 store: the one that `S3_ENDPOINT` names, reached with the AWS settings of the environment, else a moto server on a free port.
 * From moto_server on PATH, else pip into `.venv-test/moto`, else Docker. Moto keeps objects in memory and copies one whole for
 * every range: for truth, not for speed; see `fault-s3.ts`.
 */
export async function startS3(): Promise<S3Service> {
  const theirs = process.env.S3_ENDPOINT;
  if (theirs) return serviceAt(theirs, {}, async () => {});
  const port = await freePort();
  const server = await motoProgram()(port);
  const credentials = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };
  return serviceAt(`http://127.0.0.1:${port}`, credentials, () => server.stop());
}

function serviceAt(endpoint: string, credentials: Record<string, string>, stop: () => Promise<void>): S3Service {
  const region = process.env.AWS_REGION ?? 'us-east-1';
  const env = { ...credentials, AWS_ENDPOINT_URL_S3: endpoint, AWS_REGION: region };
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = credentials;
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    ...(accessKeyId && secretAccessKey && { credentials: { accessKeyId, secretAccessKey } }),
  });
  const buckets: string[] = [];
  return {
    endpoint,
    env,
    async bucket() {
      const Bucket = `nightshift-test-${randomBytes(6).toString('hex')}`;
      await client.send(new CreateBucketCommand({ Bucket }));
      buckets.push(Bucket);
      return Bucket;
    },
    async put(Bucket, Key, Body) {
      await client.send(new PutObjectCommand({ Bucket, Key, Body }));
    },
    async stop() {
      if (process.env.S3_ENDPOINT) for (const bucket of buckets) await remove(client, bucket);
      client.destroy();
      await stop();
    },
  };
}

async function remove(client: S3Client, Bucket: string): Promise<void> {
  for (;;) {
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }));
    if (Contents.length === 0) break;
    for (const { Key } of Contents) await client.send(new DeleteObjectCommand({ Bucket, Key }));
  }
  await client.send(new DeleteBucketCommand({ Bucket }));
}

function motoProgram(): (port: number) => Promise<Service> {
  const program = onPath('moto_server') ?? (installMoto() ? join(venv, 'bin/moto_server') : null);
  if (program) return (port) => startService(program, ['-H', '127.0.0.1', '-p', `${port}`], READY);
  if (dockerRuns()) {
    const options = ['run', '--rm', '--init', '--network', 'host', `motoserver/moto:${VERSION}`];
    return (port) => startService('docker', [...options, '-H', '127.0.0.1', '-p', `${port}`], READY);
  }
  throw new Error(
    'The tests need an S3 server and found none. Type one of:\n' +
      `  pip install "moto[s3,server]==${VERSION}"   (moto_server must be on PATH)\n` +
      '  start Docker, or set S3_ENDPOINT and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY of a store',
  );
}

/** True when moto lies in the project's own virtual environment, put there now if need be. */
export function installMoto(): boolean {
  if (existsSync(join(venv, 'bin/moto_server'))) return true;
  if (onPath('python3') === null || !succeeds('python3', ['-m', 'venv', venv])) return false;
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `moto[s3,server]==${VERSION}`];
  return installs(join(venv, 'bin/python'), pip);
}
