import { isNightshiftError, NightshiftError } from '../errors.ts';

const CONNECTION =
  /ECONN|ETIMEDOUT|EPIPE|EHOST|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Connection is closed|Socket timeout|Stream isn't writeable|All sentinels are unreachable|Failed to refresh slots|CLUSTERDOWN|LOADING|MASTERDOWN|TRYAGAIN/i;
const LOGIN = /^(NOAUTH|WRONGPASS|NOPERM|ERR AUTH|ERR invalid password|ERR Client sent AUTH)/;
const CERTIFICATE = /certificate|SSL|TLS|wrong version number|packet length too long/i;

export const isConnectionError = (error: unknown): boolean => CONNECTION.test(textOf(error));

export const isFullError = (error: unknown): boolean => /\bOOM\b/.test(textOf(error));

/** One that passes by itself: the same command may succeed later. */
export const isTransientError = (error: unknown): boolean => isConnectionError(error) || isFullError(error);

/** What an error of the client or the server means for a queue. Neither of them puts a password into a message. */
export function queueError(error: unknown, label: string): NightshiftError {
  if (isNightshiftError(error)) return error;
  const text = textOf(error);
  const options = { cause: error };
  if (isFullError(error)) return new NightshiftError('queue-full', `${label} is full and takes no more jobs`, options);
  if (LOGIN.test(text)) {
    return new NightshiftError('queue-config', `${label} refuses the login: ${text}`, {
      ...options,
      next: 'Check user and password; the user needs +@all on the keys of the prefix, and +info.',
    });
  }
  if (CERTIFICATE.test(text)) {
    return new NightshiftError('queue-config', `${label}: ${text}`, {
      ...options,
      next: 'Give the authority that signed its certificate: rediss://host:6379?ca=/path/ca.pem; redis:// is without TLS.',
    });
  }
  if (isConnectionError(error)) return new NightshiftError('queue-unreachable', `${label}: ${text}`, options);
  return new NightshiftError('queue-failed', `${label}: ${text}`, options);
}

/** Of an AggregateError, which is what a name with several addresses gives, the reasons. */
function textOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(textOf).join('; ');
  if (!(error instanceof Error)) return String(error);
  const code = (error as NodeJS.ErrnoException).code;
  return error.message || (typeof code === 'string' ? code : error.name);
}
