import { NightshiftError } from '../errors.ts';

/** How an S3 store is reached. Credentials are no part of it: the SDK's default chain finds them, and nothing here sees them. */
export interface S3Config {
  /** URL of an S3-compatible store; null: AWS. */
  readonly endpoint: string | null;
  /** null: from the AWS profile. `auto` is what Cloudflare R2 wants. */
  readonly region: string | null;
  /** `endpoint/bucket/key` in place of `bucket.endpoint/key`. */
  readonly pathStyle: boolean;
  /** Send no credentials: public data. Of all buckets, or of those named. */
  readonly noSignRequest: boolean | readonly string[];
  /** Pay for the requests to buckets whose owner does not. */
  readonly requesterPays: boolean;
  /**
   * When the SDK adds checksums to requests, and checks those of answers. Older stores refuse or corrupt what comes with them,
   * so off AWS the default is `WHEN_REQUIRED`; the ranges that slides are read by carry none anyway.
   */
  readonly requestChecksums: Checksums;
  readonly responseChecksums: Checksums;
}

export type Checksums = 'WHEN_SUPPORTED' | 'WHEN_REQUIRED';

type Environment = Readonly<Record<string, string | undefined>>;

const OWN = [
  'NIGHTSHIFT_S3_ENDPOINT',
  'NIGHTSHIFT_S3_REGION',
  'NIGHTSHIFT_S3_PATH_STYLE',
  'NIGHTSHIFT_S3_NO_SIGN_REQUEST',
  'NIGHTSHIFT_S3_REQUESTER_PAYS',
] as const;

/**
 * The settings of an environment: `NIGHTSHIFT_S3_ENDPOINT`, `_REGION`, `_PATH_STYLE`, `_NO_SIGN_REQUEST`, `_REQUESTER_PAYS`, and the
 * ecosystem's `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`, `AWS_REQUEST_CHECKSUM_CALCULATION`,
 * `AWS_RESPONSE_CHECKSUM_VALIDATION`. An empty value counts as none. `_NO_SIGN_REQUEST` is a switch
 * or the buckets that it is for: public slides are read without credentials, and the record is written with them.
 * @throws `setting-invalid`, which names the setting
 */
export function s3ConfigFromEnv(env: Environment): S3Config {
  for (const name of Object.keys(env)) {
    if (name.startsWith('NIGHTSHIFT_S3_') && !(OWN as readonly string[]).includes(name)) {
      throw invalid(name, 'is no setting', `The settings of S3 are ${OWN.join(', ')}.`);
    }
  }
  const endpoint =
    url(env, 'NIGHTSHIFT_S3_ENDPOINT') ?? url(env, 'AWS_ENDPOINT_URL_S3') ?? url(env, 'AWS_ENDPOINT_URL');
  const region = env.NIGHTSHIFT_S3_REGION || env.AWS_REGION || env.AWS_DEFAULT_REGION || null;
  const aws = endpoint === null || /(^|\.)amazonaws\.com(\.cn)?$/.test(new URL(endpoint).hostname);
  const checksums: Checksums = aws ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  return {
    endpoint,
    // Stores that are not AWS take any region, but the SDK signs with one.
    region: region ?? (endpoint === null ? null : 'us-east-1'),
    pathStyle: flag(env, 'NIGHTSHIFT_S3_PATH_STYLE') ?? endpoint !== null,
    noSignRequest: flagOrBuckets(env, 'NIGHTSHIFT_S3_NO_SIGN_REQUEST') ?? false,
    requesterPays: flag(env, 'NIGHTSHIFT_S3_REQUESTER_PAYS') ?? false,
    requestChecksums: checksumsOf(env, 'AWS_REQUEST_CHECKSUM_CALCULATION') ?? checksums,
    responseChecksums: checksumsOf(env, 'AWS_RESPONSE_CHECKSUM_VALIDATION') ?? checksums,
  };
}

function url(env: Environment, name: string): string | null {
  const value = env[name];
  if (!value) return null;
  let parsed: URL | null = null;
  try {
    parsed = new URL(value);
  } catch {}
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw invalid(name, `is ${JSON.stringify(value)}`, 'Give a URL, e.g. https://minio.example.org:9000.');
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw invalid(
      name,
      'holds a user or a password',
      'Give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
    );
  }
  return value;
}

const SWITCH = /^(?:(1|true|yes|on)|(0|false|no|off))$/i;
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,254}$/i;

function flag(env: Environment, name: string, next = 'Give 1 or 0.'): boolean | null {
  const value = env[name];
  if (!value) return null;
  const [found, on] = SWITCH.exec(value) ?? [];
  if (found !== undefined) return on !== undefined;
  throw invalid(name, `is ${JSON.stringify(value)}`, next);
}

function flagOrBuckets(env: Environment, name: string): boolean | readonly string[] | null {
  const buckets = (env[name] ?? '').split(',').map((bucket) => bucket.trim());
  if (buckets.some((bucket) => SWITCH.test(bucket) || !BUCKET.test(bucket))) {
    return flag(env, name, 'Give 1, 0, or the public buckets with commas between, e.g. idc-open-data.');
  }
  return buckets;
}

/** Whether the requests to a bucket carry no credentials. */
export const isUnsigned = ({ noSignRequest }: S3Config, bucket: string): boolean =>
  typeof noSignRequest === 'boolean' ? noSignRequest : noSignRequest.includes(bucket);

function checksumsOf(env: Environment, name: string): Checksums | null {
  const value = env[name]?.toUpperCase();
  if (!value) return null;
  if (value === 'WHEN_SUPPORTED' || value === 'WHEN_REQUIRED') return value;
  throw invalid(name, `is ${JSON.stringify(env[name])}`, 'Give WHEN_SUPPORTED or WHEN_REQUIRED.');
}

const invalid = (name: string, what: string, next: string): NightshiftError =>
  new NightshiftError('setting-invalid', `the environment's ${name} ${what}`, { next });

/** One object, or where the keys under a prefix begin. */
export interface S3Location {
  readonly bucket: string;
  readonly key: string;
}

/** `s3://bucket/key`; the key is taken as it is written, as the AWS tools do: nothing in it is percent-encoding. */
export function parseS3Uri(uri: string): S3Location {
  const match = /^s3:\/\/([^/]+)(?:\/(.*))?$/is.exec(uri);
  if (match === null || !BUCKET.test(match[1]!)) {
    throw new NightshiftError('usage', `${uri} names no bucket`, { next: 'Write s3://bucket/key.' });
  }
  return { bucket: match[1]!, key: match[2] ?? '' };
}

export const s3Uri = ({ bucket, key }: S3Location): string => `s3://${bucket}/${key}`;
