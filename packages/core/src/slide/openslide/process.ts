import { type ChildProcess, fork } from 'node:child_process';
import { extname, join } from 'node:path';
import type { OpenSlideReply, OpenSlideRequest } from './child.ts';

/** Releases before this one write where a file tells them to (CVE-2026-48977) and show memory that was never written (CVE-2026-54604). */
const LEAST_VERSION = [4, 0, 1] as const;
/** Seconds for the library to load, for a file to open, and for a square to be read. */
const DEADLINES = { version: 30, open: 30, read: 5 } as const;
/** What a program needs to find libraries and its own files; no credentials. */
const ENVIRONMENT = ['PATH', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH', 'SystemRoot', 'TMPDIR', 'TEMP', 'LANG', 'LC_ALL'];

/** The child died, or was killed because it did not answer in time. */
export class ChildDied extends Error {}

/** A process of OpenSlide with at most one slide open. */
export class OpenSlideProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<string>;
  #hasEnded = false;

  constructor(library: string | null) {
    this.#child = fork(
      join(import.meta.dirname, `child${extname(import.meta.filename)}`),
      library === null ? [] : [library],
      {
        serialization: 'advanced',
        // A parent under a test runner or a debugger has flags that are not for the child.
        execArgv: [],
        env: Object.fromEntries(
          ENVIRONMENT.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
        ),
        stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      },
    );
    // A slide that is kept open keeps no command from ending; the child ends with its channel.
    this.#child.unref();
    this.#child.channel?.unref();
    const { promise, resolve } = Promise.withResolvers<string>();
    this.#ended = promise;
    void promise.then(() => {
      this.#hasEnded = true;
    });
    this.#child.once('exit', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`));
    // A process that cannot be started gives no exit.
    this.#child.once('error', (error) => resolve(error.message));
  }

  get ended(): boolean {
    return this.#hasEnded;
  }

  /** One request at a time. Throws `ChildDied`. */
  async ask(request: OpenSlideRequest): Promise<OpenSlideReply> {
    const { promise: replied, resolve } = Promise.withResolvers<OpenSlideReply>();
    this.#child.once('message', resolve);
    this.#child.ref();
    this.#child.channel?.ref();
    const seconds = DEADLINES[request.type];
    let late = false;
    const deadline = setTimeout(() => {
      late = true;
      this.#child.kill('SIGKILL');
    }, 1_000 * seconds);
    try {
      // A send that fails means that the child is gone, which `#ended` tells.
      this.#child.send(request, () => {});
      const first = await Promise.race([replied, this.#ended]);
      if (typeof first !== 'string') return first;
      throw new ChildDied(late ? `OpenSlide gave no answer in ${seconds} s` : `OpenSlide died (${first})`);
    } finally {
      clearTimeout(deadline);
      this.#child.off('message', resolve);
      this.#child.unref();
      this.#child.channel?.unref();
    }
  }

  async close(): Promise<void> {
    this.#child.ref();
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

/** What was found of OpenSlide: its version, or why it is of no use. */
export type OpenSlideFound =
  | { readonly state: 'good'; readonly version: string; readonly library: string | null }
  | { readonly state: 'missing' | 'too-old'; readonly why: string };

const known = new Map<string, Promise<OpenSlideFound>>();

/**
 * Looks for OpenSlide: the library that NIGHTSHIFT_OPENSLIDE names (`off`: none), else the system's. It is loaded in a process of its own,
 * once; what was found holds for as long as this process lives.
 */
export function findOpenSlide(): Promise<OpenSlideFound> {
  const wish = process.env.NIGHTSHIFT_OPENSLIDE ?? '';
  const found = known.get(wish) ?? look(wish);
  known.set(wish, found);
  return found;
}

async function look(wish: string): Promise<OpenSlideFound> {
  if (wish === 'off') return { state: 'missing', why: 'NIGHTSHIFT_OPENSLIDE is off' };
  const library = wish === '' ? null : wish;
  const child = new OpenSlideProcess(library);
  try {
    const reply = await child.ask({ type: 'version' });
    if (reply.type !== 'version')
      return { state: 'missing', why: reply.type === 'failed' ? reply.message : reply.type };
    const { version } = reply;
    if (isEnough(version)) return { state: 'good', version, library };
    const why = `OpenSlide ${version} is too old: files can make it write where it must not (CVE-2026-48977), before ${LEAST_VERSION.join('.')}`;
    return { state: 'too-old', why };
  } catch (error) {
    if (!(error instanceof ChildDied)) throw error;
    return { state: 'missing', why: error.message };
  } finally {
    await child.close();
  }
}

function isEnough(version: string): boolean {
  const parts = version.split('.').map((part) => Number.parseInt(part, 10));
  for (const [i, least] of LEAST_VERSION.entries()) {
    const part = parts[i] ?? 0;
    if (part !== least) return part > least;
  }
  return true;
}
