/**
 * Every error a person can meet, as one table: what it stops, whether the same call may succeed later without anybody
 * acting (`retry`), and the next step. A code is part of the record and of `--json`: never rename one.
 */
interface ErrorKind {
  /** What the error stops: one tile, one slide, the whole run, or this process only. */
  readonly scope: 'tile' | 'slide' | 'run' | 'worker';
  /** True when the same call may succeed later although nobody did anything. */
  readonly retry: boolean;
  /** Exit code of a command that ends with this error. */
  readonly exit: 1 | 2 | 4 | 5;
  /** What the person does next. */
  readonly next: string;
}

const tile = (next: string): ErrorKind => ({ scope: 'tile', retry: false, exit: 1, next });
const slide = (next: string, retry = false): ErrorKind => ({ scope: 'slide', retry, exit: 4, next });
const usage = (next: string): ErrorKind => ({ scope: 'run', retry: false, exit: 2, next });
const config = (next: string): ErrorKind => ({ scope: 'run', retry: false, exit: 4, next });
/** Something that this process needs is gone: it stops, others may go on. */
const stopped = (next: string): ErrorKind => ({ scope: 'worker', retry: true, exit: 5, next });
/** A service is down: what needs it is tried again. */
const down = (next: string): ErrorKind => ({ scope: 'run', retry: true, exit: 5, next });

export const ERROR_CODES = {
  // one tile
  'tile-truncated': tile(
    'The slide file is incomplete here: copy it again from its origin, then run the same command.',
  ),
  'tile-corrupt': tile('The compressed tile cannot be decoded: re-export the slide, or accept the gap.'),
  'tile-size-mismatch': tile('The tile holds another picture size than the slide declares: re-export the slide.'),
  'tile-missing': tile('The slide stores no pixels here (a sparse file): nothing to embed.'),
  'tile-decode-crash': tile('The decoder died on this tile: please report the file that holds it.'),
  'vector-not-finite': tile('The model gave NaN or infinity: run `nightshift model check`, or use --precision fp32.'),
  // one slide
  'slide-not-found': slide('Check the path; if a manifest names it, that it was downloaded.'),
  'slide-unreadable': slide('Check the permissions and the disk.', true),
  'slide-not-a-slide': slide('Give a whole-slide image: the README lists the formats.'),
  'slide-truncated': slide('The file ends before its data does: copy it again from its origin.'),
  'slide-corrupt': slide('The file breaks the rules of its format: re-export it from the scanner software.'),
  'slide-unsupported': slide(
    'Convert it to a pyramidal tiled TIFF with JPEG tiles, e.g. `vips tiffsave --tile --pyramid`.',
  ),
  'slide-limits': slide('The file exceeds a safety limit; a real slide does not.'),
  'slide-forbidden': slide('Ask for s3:GetObject on it. Where the requester pays, set NIGHTSHIFT_S3_REQUESTER_PAYS=1.'),
  'slide-archived': slide('Restore it from its archive class (`aws s3api restore-object`), then run the same command.'),
  'slide-changed': slide('The file was replaced while it was read: run the same command again.'),
  'mpp-missing': slide('State it with --slide-mpp, e.g. --slide-mpp 0.25 for a 40x scan.'),
  'mpp-absurd': slide('State the true value with --slide-mpp, e.g. --slide-mpp 0.25 for a 40x scan.'),
  'outline-missing': slide(
    'Add <slide name>.geojson to the folder of outlines, or run such slides without --tissue-outlines.',
  ),
  'outline-invalid': slide('Export the outline again: GeoJSON Polygons in level-0 pixels.'),
  'mpp-too-coarse': slide('Choose a coarser --mpp: the slide holds no such detail.'),
  // the run
  usage: usage('See `nightshift --help`.'),
  'source-not-found': usage('Check the path; quote a glob so that the shell leaves it alone.'),
  'source-empty': usage('Point it at a folder that holds slides, or at the slides themselves.'),
  'manifest-invalid': usage('Fix the named line: a manifest is CSV or JSONL with a `uri` column.'),
  'record-not-found': usage('Give the folder that `nightshift embed --out` wrote.'),
  'run-ambiguous': usage('Name one with --run.'),
  'run-not-found': usage('List the runs with `nightshift verify <out>`.'),
  'picture-unreadable': usage('Give a JPEG, PNG or WebP picture.'),
  'tile-not-in-record': usage('Give SLIDE:X,Y of a tile that the record holds.'),
  'model-not-found': config('Give a model directory (with model.json), or make one with `nightshift model convert`.'),
  'model-invalid': config('Convert the model again with `nightshift model convert`.'),
  'model-digest': config('The model files changed after they were converted: convert the model again.'),
  'model-drift': config(
    'Run `nightshift model check <dir>`; try --device cpu, another driver, or a model converted with --precision fp32.',
  ),
  'model-mismatch': config('Use the model that the record was made with, or another --out.'),
  'weights-not-found': config('Give the file of the weights, or a directory that holds model.safetensors.'),
  'weights-invalid': config('Download the weights again and compare their sha256 with the publisher’s.'),
  'weights-refused': config(
    'Ask their maker for safetensors. If you trust them: load them with PyTorch and save the state dict as safetensors.',
  ),
  'weights-digest': config('Download the weights again, or convert without --id if they are others on purpose.'),
  'weights-unsupported': config(
    'This architecture or tensor layout is not known: see `nightshift model convert --help`.',
  ),
  'out-not-writable': config('Choose another --out, or change the permissions of this one.'),
  'record-layout': config('The folder was written by another version: use that version, or another --out.'),
  'record-corrupt': config(
    'A file of the record is damaged: remove it and run the same command, which makes it again.',
  ),
  'record-unreadable': config('Check the permissions and the disk of --out.'),
  'setting-invalid': config('Correct or remove the named setting.'),
  's3-credentials': config(
    'Refresh the credentials (e.g. `aws sso login`, AWS_PROFILE), or set NIGHTSHIFT_S3_NO_SIGN_REQUEST=1 for public data.',
  ),
  's3-forbidden': config(
    'Check the policy of the bucket and AWS_PROFILE. Where the requester pays, set NIGHTSHIFT_S3_REQUESTER_PAYS=1.',
  ),
  's3-requester-pays': config('Set NIGHTSHIFT_S3_REQUESTER_PAYS=1: you pay for the requests to this bucket.'),
  's3-bucket-missing': config('Check the name of the bucket and the endpoint, or create the bucket.'),
  's3-region': config('Set AWS_REGION to the region of the bucket.'),
  's3-refused': config('Check the endpoint, and that the store speaks this part of S3.'),
  's3-unavailable': down('The store does not answer, or asks for patience: run the same command again later.'),
  'out-no-put-if-absent': config(
    'Two workers could overwrite each other there: use a store that honours If-None-Match on PUT (AWS, Ceph, MinIO, R2), or a directory.',
  ),
  'disk-full': stopped('Free some space, then run the same command: it goes on where it stopped.'),
  'store-failed': down('The record is complete; run the same command again to fill the vector store.'),
  'encoder-failed': stopped(
    'The inference process died repeatedly: lower --batch, check the memory, then run the same command.',
  ),
  'encoder-out-of-memory': stopped('Lower --batch.'),
  'model-not-public': config(
    'Convert it from the files that you hold: `nightshift model convert <file> --id <id> --to <dir>`.',
  ),
  'hub-access': config('Ask for access on the page of the model, then give a token of that account (HF_TOKEN).'),
  'hub-token': config('Make a token that may read at https://huggingface.co/settings/tokens and set HF_TOKEN.'),
  'hub-not-found': config('Check the endpoint (--endpoint, HF_ENDPOINT): the repository or file is not there.'),
  'hub-unreachable': down(
    'Check the network; behind a proxy set HTTPS_PROXY and NODE_USE_ENV_PROXY=1. The same command goes on later.',
  ),
  'download-incomplete': down('The same command goes on where the download stopped.'),
  'download-digest': down('The damaged file was removed: the same command downloads it again.'),
  'port-unavailable': config('Choose another --port (0: any free one) or --host.'),
  'device-unavailable': config('Use --device cpu, or install what the device needs (see `nightshift doctor`).'),
  // the queue
  'queue-unreachable': down('Start Redis, or correct --redis; then run the same command: it goes on where it stopped.'),
  'queue-full': down(
    'Give Redis more memory (redis-cli config set maxmemory), or let the workers go on; then run it again.',
  ),
  'queue-failed': down('Look at the log of Redis, then run the same command: it goes on where it stopped.'),
  'queue-config': config('Correct --redis, or the settings of Redis.'),
  'lease-lost': slide('Nothing: another process has the job.', true),
  'job-invalid': slide('Shorten the path of the slide; nothing else makes a job too large.'),
  'job-exhausted': slide(
    'Whoever worked on it died too often: run it alone to see why, e.g. `nightshift embed` with this slide only.',
  ),
  internal: {
    scope: 'run',
    retry: false,
    exit: 1,
    next: 'This is a bug in nightshift: please report it with the lines above.',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorOptions {
  /** Facts of this one occurrence: numbers, names, offsets. No secrets, no patient data. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
  /** A next step that fits better than the table's. */
  readonly next?: string;
}

/** The only error class. `code` decides scope, retry and exit; `message` says what happened, to which thing. */
export class NightshiftError extends Error {
  readonly code: ErrorCode;
  readonly data: Readonly<Record<string, unknown>>;
  readonly next: string;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'NightshiftError';
    this.code = code;
    this.data = options.data ?? {};
    this.next = options.next ?? ERROR_CODES[code].next;
  }

  get scope(): ErrorKind['scope'] {
    return ERROR_CODES[this.code].scope;
  }

  get retry(): boolean {
    return ERROR_CODES[this.code].retry;
  }

  get exit(): number {
    return ERROR_CODES[this.code].exit;
  }
}

export function isNightshiftError(error: unknown, ...codes: ErrorCode[]): error is NightshiftError {
  return error instanceof NightshiftError && (codes.length === 0 || codes.includes(error.code));
}

/** An error as data: what crosses a process or a thread, and what a failure ledger holds. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly next: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export function toErrorRecord(error: unknown): ErrorRecord {
  if (error instanceof NightshiftError) {
    return { code: error.code, message: error.message, next: error.next, data: error.data };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'internal', message, next: ERROR_CODES.internal.next, data: {} };
}

export function fromErrorRecord(record: ErrorRecord): NightshiftError {
  return new NightshiftError(record.code, record.message, { data: record.data, next: record.next });
}
