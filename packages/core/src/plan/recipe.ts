import { createHash } from 'node:crypto';
import { z } from 'zod';
import { NightshiftError } from '../errors.ts';
import { FILTERS, type Recipe } from './plan.ts';

/** JSON with sorted keys and no spaces: equal values give equal text. Throws `internal` on what JSON cannot hold. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && (Object.getPrototypeOf(value) ?? Object.prototype) === Object.prototype) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`).join(',')}}`;
  }
  throw new NightshiftError('internal', `no canonical JSON for ${typeof value} ${String(value)}`);
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** 12 hex digits that name a recipe: sha256 of its canonical JSON. */
export function recipeId(recipe: Recipe): string {
  return sha256(canonicalJson(recipe)).slice(0, 12);
}

const STEM_CHARACTERS = 80;

/**
 * Name of a slide in the record: readable stem of the last path segment, then 8 hex digits over URI, content id and the
 * slide's own mpp and outline (they decide the vectors), so that equal stems do not collide. Only [A-Za-z0-9._-], never a leading dot or dash: safe as a file name and as an object key.
 */
export function slideKey(uri: string, contentId: string, ownMpp: number | null = null, outline?: string): string {
  const name =
    uri
      .replace(/[/\\]+$/, '')
      .split(/[/\\]/)
      .at(-1) ?? '';
  const stem = name
    .replace(/(.)\.ome\.tiff?$/i, '$1')
    .replace(/(.)\.[a-z][a-z0-9]{1,7}$/i, '$1')
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replace(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[.\-_]+|[.\-_]+$/g, '')
    .slice(0, STEM_CHARACTERS);
  const identity = [
    uri,
    contentId,
    ...(ownMpp === null ? [] : [ownMpp]),
    ...(outline === undefined ? [] : ['outline', outline]),
  ].join('\0');
  return `${stem || 'slide'}-${sha256(identity).slice(0, 8)}`;
}

const positive = z.number().positive();

/** Bounds of a recipe, as the record stores it. Unknown keys are refused: they might decide a vector. */
export const recipeSchema = z
  .strictObject({
    version: z.literal(1),
    model: z.strictObject({
      name: z.string().min(1),
      digest: z.string().min(1),
      precision: z.string().min(1),
      embedding: z.enum(['cls', 'mean', 'cls+mean', 'patch']),
      dims: z.int().positive(),
      patch: z.strictObject({ grid: z.int().positive(), width: z.int().positive() }).optional(),
    }),
    tile: z.strictObject({
      px: z.int().min(8).max(8192),
      mpp: positive,
      overlap: z.int().nonnegative(),
      resampling: z.enum(['box', 'bilinear', 'bicubic']),
      dct: z.literal(true).optional(),
    }),
    tissue: z.strictObject({ method: z.enum(['auto', 'none', 'outline']), min: z.number().min(0).max(1) }),
    filter: z.enum(['none', ...FILTERS]),
    slideMpp: positive.nullable(),
    mppEstimate: z.literal('objective').optional(),
    limit: z.int().nonnegative().nullable(),
  })
  .refine((r) => r.tile.overlap < r.tile.px, {
    path: ['tile', 'overlap'],
    error: 'overlap must be less than the tile',
  })
  .refine((r) => (r.model.embedding === 'patch') === (r.model.patch !== undefined), {
    path: ['model', 'patch'],
    error: 'the embedding patch has a grid, and no other has',
  });

/** Values of the patch grid that a tile has beside its vector; 0 where the recipe asks for none. */
export const patchValues = ({ model: { patch } }: Recipe): number => (patch ? patch.grid ** 2 * patch.width : 0);

/** A recipe read back from the record. Throws `record-corrupt` with the first thing wrong. */
export function parseRecipe(value: unknown): Recipe {
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data as Recipe;
  throw new NightshiftError('record-corrupt', `the stored recipe is not valid: ${firstIssue(parsed.error)}`);
}

/** `path: message` of the first issue. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue ? `${issue.path.join('.') || '(top)'}: ${issue.message}` : 'unknown';
}
