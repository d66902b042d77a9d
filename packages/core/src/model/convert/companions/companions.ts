import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { NightshiftError } from '../../../errors.ts';
import type { Filter } from '../../../plan/plan.ts';
import { hfConfig, hfPreprocessor } from './hf.ts';
import { timmConfig } from './timm.ts';

export type Rgb = readonly [number, number, number];

/** What the JSON files beside a checkpoint add to its tensors; only what they state. */
export interface Companions {
  readonly heads?: number;
  readonly eps?: number;
  /** Checked against the tensors. */
  readonly width?: number;
  readonly depth?: number;
  readonly patchPx?: number;
  /** False for the demo's random weights, which say so themselves. */
  readonly trained?: boolean;
  /** `from`: the file that says so. */
  readonly normalisation?: { readonly mean: Rgb; readonly std: Rgb; readonly from: string };
  readonly inputPx?: number;
  readonly resize?: { readonly shortEdge: number; readonly filter: Filter };
}

/**
 * Reads `config.json` (of transformers or of timm) and `preprocessor_config.json` of a directory, where they are.
 *
 * @throws NightshiftError `weights-invalid` for a file that is there and cannot be understood
 */
export async function readCompanions(dir: string): Promise<Companions> {
  return {
    ...(await readJson(join(dir, 'config.json'), (json) => ('architecture' in json ? timmConfig : hfConfig))),
    ...(await readJson(join(dir, 'preprocessor_config.json'), () => hfPreprocessor)),
  };
}

async function readJson(path: string, dialect: (json: object) => z.ZodType<Companions>): Promise<Companions> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return null;
    throw new NightshiftError('weights-invalid', `${path} cannot be read (${cause.code})`, { cause });
  });
  if (text === null) return {};
  try {
    const json = z.looseObject({}).parse(JSON.parse(text));
    return withoutUndefined(dialect(json).parse(json));
  } catch (cause) {
    const what = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll('\n', ' ') : 'not JSON';
    throw new NightshiftError('weights-invalid', `${path}: ${what}`, { cause });
  }
}

const withoutUndefined = (stated: Companions): Companions =>
  Object.fromEntries(Object.entries(stated).filter(([, value]) => value !== undefined));
