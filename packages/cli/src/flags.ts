import { readFileSync } from 'node:fs';
import { delimiter, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { NightshiftError } from '@nightshift/core';
import { suggest } from './suggest.ts';

/**
 * One setting, described once: the table entry is the flag, its environment variable, its key in the project file, its line
 * of help and its check. The key of a table is the name in camelCase: `minTissue` is `--min-tissue` and `NIGHTSHIFT_MIN_TISSUE`.
 */
export interface Flag<T> {
  readonly about: string;
  /** Stands for the value in the help; null for a switch, which takes none. */
  readonly placeholder: string | null;
  readonly short?: string;
  readonly many: boolean;
  readonly required: boolean;
  readonly fallback: T;
  /** The default, in words, where it is not the fallback itself. */
  readonly defaultText?: string;
  /** The value, or what should have been given. */
  parse(text: string): { readonly value: unknown } | { readonly expected: string };
}

export type FlagTable = Readonly<Record<string, Flag<unknown>>>;
export type Values<F extends FlagTable> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

interface About {
  readonly about: string;
  readonly short?: string;
  readonly defaultText?: string;
}

const plain = { many: false, required: false } as const;

export const toggle = (about: About): Flag<boolean> => ({
  ...plain,
  ...about,
  placeholder: null,
  fallback: false,
  parse: (given) =>
    given === 'true' || given === '1'
      ? { value: true }
      : given === 'false' || given === '0'
        ? { value: false }
        : { expected: 'true or false' },
});

const parseText = (given: string) => (given === '' ? { expected: 'a text that is not empty' } : { value: given });

export const text = (about: About & { readonly placeholder: string }): Flag<string | null> => ({
  ...plain,
  ...about,
  fallback: null,
  parse: parseText,
});

/** A text without which the command cannot run. */
export const needed = (about: About & { readonly placeholder: string }): Flag<string> => ({
  ...plain,
  ...about,
  required: true,
  fallback: '',
  parse: parseText,
});

/** A flag that may come several times; its environment variable separates by the path delimiter. */
export const list = (about: About & { readonly placeholder: string }): Flag<readonly string[]> => ({
  ...plain,
  ...about,
  many: true,
  fallback: [],
  parse: parseText,
});

interface Range extends About {
  readonly placeholder?: string;
  readonly min: number;
  readonly max: number;
  /** What it counts: `px`, `um/px`, `tiles`. */
  readonly unit: string;
}

export function number<T extends number | null>(about: Range & { readonly fallback: T }): Flag<T | number> {
  return numeric(about, 'a number', Number.isFinite);
}

export function integer<T extends number | null>(about: Range & { readonly fallback: T }): Flag<T | number> {
  return numeric(about, 'a whole number', Number.isSafeInteger);
}

function numeric<T extends number | null>(
  about: Range & { readonly fallback: T },
  kind: string,
  isOfKind: (value: number) => boolean,
): Flag<T | number> {
  const { min, max, unit, ...rest } = about;
  const range = max === Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `from ${min} to ${max}`;
  return {
    ...plain,
    placeholder: 'N',
    ...rest,
    parse(given) {
      const value = Number(given);
      const good = given.trim() !== '' && isOfKind(value) && value >= min && value <= max;
      return good ? { value } : { expected: `${kind} ${range}${unit === '' ? '' : ` (${unit})`}` };
    },
  };
}

interface Choice<T extends string> extends About {
  readonly values: readonly T[];
}

export function choice<const T extends string>(about: Choice<T> & { readonly fallback: NoInfer<T> }): Flag<T>;
export function choice<const T extends string>(about: Choice<T> & { readonly fallback: null }): Flag<T | null>;
export function choice(about: Choice<string> & { readonly fallback: string | null }): Flag<string | null> {
  const { values, ...rest } = about;
  return {
    ...plain,
    ...rest,
    placeholder: values.join('|'),
    parse(given) {
      if (values.includes(given)) return { value: given };
      const meant = suggest(given, values);
      return { expected: `${values.join(', ')}${meant === null ? '' : `; did you mean ${meant}?`}` };
    },
  };
}

/** Three numbers, one for each colour channel: `0.5,0.5,0.5`. */
export const triple = (
  about: About & { readonly placeholder: string },
): Flag<readonly [number, number, number] | null> => ({
  ...plain,
  ...about,
  fallback: null,
  parse(given) {
    const values = given.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
    const good = values.length === 3 && values.every(Number.isFinite);
    return good ? { value: values } : { expected: 'three numbers with commas between, e.g. 0.5,0.5,0.5' };
  },
});

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
export const flagName = (key: string): string => `--${kebab(key)}`;
export const envName = (key: string): string => `NIGHTSHIFT_${kebab(key).replaceAll('-', '_').toUpperCase()}`;

export const PROJECT_FILE = 'nightshift.config.json';

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Keys that may stand in the environment and the project file, of every command: one file serves them all. */
  readonly knownKeys: ReadonlySet<string>;
}

/**
 * The values of a table: flag, else environment, else project file, else default.
 * @throws `usage`, naming the setting where it was given, what was expected, and what was probably meant.
 */
export function readFlags<F extends FlagTable>(
  table: F,
  argv: readonly string[],
  surroundings: Surroundings,
): { values: Values<F>; args: string[] } {
  const { given, args } = readArgv(table, argv);
  const project = readProject(surroundings);
  checkEnvironment(surroundings);
  const values: Record<string, unknown> = {};
  for (const [key, flag] of Object.entries(table)) {
    const elsewhere = surroundings.knownKeys.has(key);
    const variable = elsewhere ? surroundings.env[envName(key)] : undefined;
    if (given[key] !== undefined) {
      values[key] = convert(flag, given[key], flagName(key));
    } else if (variable !== undefined && variable !== '') {
      const texts = flag.many ? variable.split(delimiter).filter((part) => part !== '') : [variable];
      values[key] = convert(flag, texts, envName(key));
    } else if (elsewhere && project[kebab(key)] !== undefined) {
      const value = project[kebab(key)];
      const texts = (Array.isArray(value) ? value : [value]).map(String);
      values[key] = convert(flag, texts, `"${kebab(key)}" in ${PROJECT_FILE}`);
    } else if (flag.required) {
      throw new NightshiftError('usage', `${flagName(key)} is missing: ${flag.about}`, {
        next: `Give ${flagName(key)} ${flag.placeholder}, set ${envName(key)}, or put "${kebab(key)}" into ${PROJECT_FILE}.`,
      });
    } else {
      values[key] = flag.fallback;
    }
  }
  return { values: values as Values<F>, args };
}

function convert(flag: Flag<unknown>, texts: readonly string[], where: string): unknown {
  const values = texts.map((given) => {
    const result = flag.parse(given);
    if ('expected' in result) {
      throw new NightshiftError('usage', `${where} is "${given}"`, { next: `Give ${result.expected}.` });
    }
    return result.value;
  });
  return flag.many ? values : values.at(-1);
}

function readArgv(table: FlagTable, argv: readonly string[]): { given: Record<string, string[]>; args: string[] } {
  const keys = new Map(Object.keys(table).map((key) => [kebab(key), key]));
  const options = Object.fromEntries(
    Object.entries(table).map(([key, flag]) => [
      kebab(key),
      {
        type: flag.placeholder === null ? ('boolean' as const) : ('string' as const),
        ...(flag.short === undefined ? {} : { short: flag.short }),
      },
    ]),
  );
  const { tokens, positionals } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: Record<string, string[]> = {};
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const key = keys.get(token.name);
    if (key === undefined)
      throw unknown(
        'flag',
        token.rawName,
        [...keys.keys()].map((name) => `--${name}`),
      );
    const isSwitch = table[key]!.placeholder === null;
    if (isSwitch && token.value !== undefined) {
      throw new NightshiftError('usage', `${token.rawName} is a switch and takes no value`);
    }
    if (!isSwitch && (token.value === undefined || (!token.inlineValue && /^--?[a-z]/i.test(token.value)))) {
      throw new NightshiftError('usage', `${token.rawName} needs a value`, {
        next: `Give ${token.rawName} ${table[key]!.placeholder}.`,
      });
    }
    given[key] ??= [];
    given[key].push(token.value ?? 'true');
  }
  return { given, args: positionals };
}

function readProject({ cwd, knownKeys }: Surroundings): Readonly<Record<string, unknown>> {
  let content: string;
  try {
    content = readFileSync(resolve(cwd, PROJECT_FILE), 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new NightshiftError('usage', `cannot read ${PROJECT_FILE}: ${(cause as Error).message}`, { cause });
  }
  let project: unknown;
  try {
    project = JSON.parse(content);
  } catch (cause) {
    throw new NightshiftError('usage', `${PROJECT_FILE} is not JSON: ${(cause as Error).message}`, {
      cause,
      next: `Mend or remove ${PROJECT_FILE}.`,
    });
  }
  if (typeof project !== 'object' || project === null || Array.isArray(project)) {
    throw new NightshiftError('usage', `${PROJECT_FILE} is not an object`, { next: `Mend or remove ${PROJECT_FILE}.` });
  }
  const names = [...knownKeys].map(kebab);
  for (const [name, value] of Object.entries(project)) {
    if (!names.includes(name)) throw unknown(`key in ${PROJECT_FILE}`, `"${name}"`, names, name);
    if (typeof value === 'object' && !(Array.isArray(value) && value.every((item) => typeof item === 'string'))) {
      throw new NightshiftError('usage', `"${name}" in ${PROJECT_FILE} is not a plain value`, {
        next: 'Give a text, a number, true, false, or a list of texts.',
      });
    }
  }
  return project as Record<string, unknown>;
}

/** A variable one typo away from a known one is an error; other NIGHTSHIFT_ variables may be a cluster's own (service links). */
function checkEnvironment({ env, knownKeys }: Surroundings): void {
  const names = [...knownKeys].map(envName);
  for (const name of Object.keys(env)) {
    if (!name.startsWith('NIGHTSHIFT_') || names.includes(name)) continue;
    const prefix = 'NIGHTSHIFT_'.length;
    const meant = suggest(
      name.slice(prefix),
      names.map((known) => known.slice(prefix)),
    );
    if (meant !== null) throw unknown('environment variable', name, names, `NIGHTSHIFT_${meant}`);
  }
}

export function unknown(kind: string, shown: string, known: readonly string[], word: string = shown): NightshiftError {
  const meant = suggest(word, known);
  return new NightshiftError('usage', `unknown ${kind} ${shown}`, {
    ...(meant === null ? {} : { next: `Did you mean ${meant}?` }),
  });
}
