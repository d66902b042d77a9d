import { canonicalJson } from '../plan/recipe.ts';

/** The layout that this version reads and writes. */
export const LAYOUT = 1;

/** Names in a record. `recipe` is a recipe id, `slide` a slide key. */
export const keys = {
  layout: 'nightshift.json',
  run: (id: string) => `runs/${id}.json`,
  runSlides: (id: string) => `runs/${id}.slides.jsonl`,
  /** What a manifest says of the slides beside their mpp. */
  runMetadata: (id: string) => `runs/${id}.metadata.jsonl`,
  /** The model.json of the model that made the vectors. */
  model: (recipe: string) => `${recipe}/model.json`,
  plans: (recipe: string) => `${recipe}/plans/`,
  plan: (recipe: string, slide: string) => `${recipe}/plans/${slide}.json`,
  /** An outline that the person drew, by its digest. */
  drawnOutline: (digest: string) => `outlines/${digest}.geojson`,
  /** The plan's tissue outline by itself, as QuPath opens it. */
  outline: (recipe: string, slide: string) => `${recipe}/plans/${slide}.geojson`,
  allShards: (recipe: string) => `${recipe}/shards/`,
  shards: (recipe: string, slide: string) => `${recipe}/shards/${slide}/`,
  /** Padded, so that a listing is in order. */
  shard: (recipe: string, slide: string, index: number) =>
    `${recipe}/shards/${slide}/${String(index).padStart(5, '0')}.arrow`,
  slides: (recipe: string) => `${recipe}/slides/`,
  slide: (recipe: string, slide: string) => `${recipe}/slides/${slide}.arrow`,
  allFailures: (recipe: string) => `${recipe}/failures/`,
  failures: (recipe: string, slide: string) => `${recipe}/failures/${slide}.json`,
  /** What reading the slide has cost. Beside the slide file, which is the same bytes whoever read what twice. */
  reads: (recipe: string, slide: string) => `${recipe}/reads/${slide}.json`,
  qc: (recipe: string, slide: string) => `${recipe}/qc/${slide}.jpg`,
};

/** Canonical, with a newline: the same value gives the same file, and a line of a JSONL file. */
export const encodeJson = (value: unknown): Uint8Array => new TextEncoder().encode(`${canonicalJson(value)}\n`);
export const decodeText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
