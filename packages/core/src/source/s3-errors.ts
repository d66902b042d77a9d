import { NightshiftError } from '../errors.ts';

/** Why a request is made again. */
export type RetryReason =
  | 'slow-down'
  | 'server-error'
  | 'connection'
  | 'timeout'
  | 'stall'
  | 'short-body'
  | 'wrong-range'
  | 'conflict'
  | 'clock-skew';

/** How a request ended: the first digit of its status, or `none` where no answer came. */
export type StatusClass = '2xx' | '3xx' | '4xx' | '5xx' | 'none';

export interface S3Failure {
  /** HTTP status; 0 where no answer came. */
  readonly status: number;
  readonly statusClass: StatusClass;
  /** S3's code, or that of the system (`ECONNRESET`); empty where the answer had no body to say it in, as after HEAD. */
  readonly code: string;
  /** null: the same request would fail again. */
  readonly retry: RetryReason | null;
  /** The store asks for fewer requests at once. */
  readonly slow: boolean;
  /** The pause that the store asks for. */
  readonly retryAfterMs: number;
  /** Refused because it was asked or signed in another region than the bucket's. */
  readonly misplaced: boolean;
  /** Region that the store names for the bucket. */
  readonly region: string | null;
  readonly message: string;
}

/** A failure that the client itself finds in an answer, or in its absence. */
export const transportError = (reason: RetryReason, message: string): Error =>
  Object.assign(new Error(message), { retryReason: reason });

interface SdkError {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly retryReason?: RetryReason;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly statusCode?: number; readonly headers?: Readonly<Record<string, string>> };
}

const SLOW = new Set([
  'SlowDown',
  'ServiceUnavailable',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'RequestLimitExceeded',
]);
const CONFLICT = new Set(['ConditionalRequestConflict', 'OperationAborted']);
const NO_REGION = 'Region is missing';
const TLS = /^(CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|EPROTO)/;

/** What an error of the SDK, of the connection or of `transportError` means. */
export function classify(thrown: unknown): S3Failure {
  const error = thrown as SdkError;
  const status = error.$metadata?.httpStatusCode ?? error.$response?.statusCode ?? 0;
  const headers = error.$response?.headers ?? {};
  const named = error.code ?? error.name ?? '';
  // After HEAD there is no body, and the SDK fills the name with a word of its own.
  const code = /^(Unknown|UnknownError|NotFound|Forbidden|BadRequest|\d+|Error)$/.test(named) ? '' : named;
  const retry = error.retryReason ?? reasonOf(status, code, error);
  const seconds = Number(headers['retry-after']);
  const misplaced =
    status === 301 || status === 307 || code === 'AuthorizationHeaderMalformed' || code === 'PermanentRedirect';
  const region = headers['x-amz-bucket-region'] ?? /expecting '([a-z0-9-]+)'/.exec(error.message ?? '')?.[1] ?? null;
  return {
    status,
    statusClass: status === 0 ? 'none' : (`${Math.floor(status / 100)}xx` as StatusClass),
    code,
    retry,
    slow: retry === 'slow-down' || retry === 'timeout' || retry === 'stall',
    retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0,
    misplaced: misplaced || (status === 400 && code === '' && region !== null),
    region,
    message: error.message || named,
  };
}

function reasonOf(status: number, code: string, error: SdkError): RetryReason | null {
  // The SDK calls these a timeout.
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'connection';
  if (SLOW.has(code) || status === 429 || status === 503) return 'slow-down';
  if (code === 'RequestTimeout' || error.name === 'TimeoutError' || status === 408) return 'timeout';
  if (code === 'RequestTimeTooSkewed') return 'clock-skew';
  if (CONFLICT.has(code) || status === 409) return 'conflict';
  // A success that could not be read: the answer ends early.
  if (status >= 200 && status < 300) return 'short-body';
  if (status >= 500 && status !== 501 && status !== 507) return 'server-error';
  if (status !== 0 || TLS.test(code)) return null;
  // No answer: a system error of the connection. Anything else without a status is no matter of the network.
  return /^(E[A-Z_]+|UND_ERR_.*)$/.test(code) || /socket hang up|aborted/i.test(error.message ?? '')
    ? 'connection'
    : null;
}

const CREDENTIALS = new Set([
  ...[
    'CredentialsProviderError',
    'TokenProviderError',
    'ExpiredToken',
    'ExpiredTokenException',
    'TokenRefreshRequired',
  ],
  ...['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'InvalidToken', 'InvalidSecurity', 'RequestTimeTooSkewed'],
]);

/** True for what neither the store nor the network said: a bug, to be passed on as it is. */
export const isForeign = ({ status, code, retry, message }: S3Failure): boolean =>
  status === 0 && retry === null && !TLS.test(code) && !CREDENTIALS.has(code) && message !== NO_REGION;

/** The failure as an error of the table: `doing` is what was tried, with the URI. The store's code and status are in `data`. */
export function toS3Error(failure: S3Failure, doing: string, cause: unknown): NightshiftError {
  const { status, code, misplaced, region, message } = failure;
  const answer = status === 0 ? message : `${status}${code === '' ? '' : ` ${code}`}`;
  const data = { status, s3Code: code };
  const error = (kind: ConstructorParameters<typeof NightshiftError>[0], why: string, next?: string) =>
    new NightshiftError(kind, `${doing}: ${why}`, { cause, data, ...(next !== undefined && { next }) });

  if (CREDENTIALS.has(code) || status === 401) return error('s3-credentials', code || answer);
  if (failure.retry !== null) return error('s3-unavailable', answer);
  if (code === 'NoSuchBucket') return error('s3-bucket-missing', 'there is no such bucket');
  if (message === NO_REGION) return error('s3-region', 'no region is set');
  if (misplaced && region === null) return error('s3-region', answer);
  if (misplaced) return error('s3-region', `the bucket is in ${region}`, `Set AWS_REGION=${region}.`);
  if (code === 'QuotaExceeded' || status === 507) return error('disk-full', answer, 'Raise the quota of the bucket.');
  if (/requester.?pays/i.test(message)) return error('s3-requester-pays', answer);
  if (status === 403) return error('s3-forbidden', answer);
  return error('s3-refused', `${answer}${code === message || status === 0 ? '' : ` (${message})`}`);
}
