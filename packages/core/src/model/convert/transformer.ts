import { NightshiftError } from '../../errors.ts';
import type { Naming } from './names/naming.ts';
import type { Rows, Weights } from './read/weights.ts';

/** A tensor that is read when it is written, not before. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly read: () => Promise<Float32Array>;
}

/** `weight` [out, in], `bias` [out]. */
export interface Linear {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** `swiglu`: down(silu(gate) * up); `gelu`: down(gelu(up)), with the exact (erf) GELU. */
export type Mlp =
  | { readonly kind: 'swiglu'; readonly gate: Linear; readonly up: Linear; readonly down: Linear }
  | { readonly kind: 'gelu'; readonly up: Linear; readonly down: Linear };

export interface Block {
  readonly norm1: Linear;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly projection: Linear;
  readonly scale1: Tensor | null;
  readonly norm2: Linear;
  readonly mlp: Mlp;
  readonly scale2: Tensor | null;
}

/** A pre-norm ViT, whatever library its weights come from. */
export interface VisionTransformer {
  readonly width: number;
  readonly patchPx: number;
  readonly mlpHidden: number;
  readonly registerCount: number;
  /** Side of the grid that the position embedding is stored for. */
  readonly storedGrid: number;
  /** Values of the tensors that the graph is made from. */
  readonly parameters: number;
  /** [1, 1, width] */
  readonly cls: Tensor;
  /** [1, registers, width] */
  readonly registers: Tensor | null;
  /**
   * [1, p + storedGrid^2, width]: p rows for the tokens before the patches. p is 0 (none has a position), 1 (the class
   * token) or 1 + registers (all of them).
   */
  readonly position: Tensor;
  readonly positionPrefix: number;
  /** `weight` [width, 3, patchPx, patchPx] */
  readonly patch: Linear;
  readonly blocks: readonly Block[];
  readonly norm: Linear;
}

/**
 * Finds the parts of a ViT among the tensors of a checkpoint. All numbers come from shapes, and every tensor must be there,
 * have its shape, and be known.
 *
 * @throws NightshiftError `weights-unsupported`, naming the tensor
 */
export function findTransformer(weights: Weights, naming: Naming): VisionTransformer {
  const used = new Set<string>();
  let parameters = 0;
  const fail = (what: string) => new NightshiftError('weights-unsupported', `${weights.file}: ${what}`);

  const shapeOf = (name: string): readonly number[] => {
    const entry = weights.tensors.get(name);
    if (entry === undefined) throw fail(`tensor ${name} is missing`);
    return entry.shape;
  };
  const tensor = (name: string, shape: readonly number[], rows?: Rows): Tensor => {
    const found = shapeOf(name);
    if (found.join() !== shape.join()) {
      throw fail(`tensor ${name} has the shape [${found.join(', ')}], expected [${shape.join(', ')}]`);
    }
    if (!used.has(name)) parameters += shape.reduce((product, n) => product * n, 1);
    used.add(name);
    const own = rows ? [rows.to - rows.from, ...shape.slice(1)] : shape;
    return { shape: own, read: () => weights.read(name, rows) };
  };
  const layer = (name: string, shape: readonly number[], rows?: Rows): Linear => ({
    weight: tensor(`${name}.weight`, shape, rows),
    bias: tensor(`${name}.bias`, [shape[0]!], rows),
  });
  const present = (...names: string[]): string => names.find((name) => weights.tensors.has(name)) ?? names[0]!;

  const patchShape = shapeOf(`${naming.patch}.weight`);
  const width = patchShape[0] ?? 0;
  const patchPx = patchShape[3] ?? 0;
  const patch = layer(naming.patch, [width, 3, patchPx, patchPx]);
  const cls = tensor(naming.cls, [1, 1, width]);
  const registerName = naming.registers.find((name) => weights.tensors.has(name));
  const registerCount = registerName === undefined ? 0 : (shapeOf(registerName)[1] ?? 0);
  const registers = registerName === undefined ? null : tensor(registerName, [1, registerCount, width]);

  const tokens = shapeOf(naming.position)[1] ?? 0;
  const prefixRows = { cls: 1, none: 0, all: 1 + registerCount };
  const allowed = naming.positioned.map((kind) => prefixRows[kind]);
  const positionPrefix = allowed.find((rows) => tokens > rows && Number.isInteger(Math.sqrt(tokens - rows)));
  if (positionPrefix === undefined) {
    throw fail(
      `tensor ${naming.position} has ${tokens} rows, not a square of patches and ${allowed.join(' or ')} more`,
    );
  }
  const position = tensor(naming.position, [1, tokens, width]);

  const prefixes = blockPrefixes(weights, naming);
  const scales = naming.scales ?? [];
  const layerScale = prefixes.some((prefix) => scales.some((name) => weights.tensors.has(prefix + name)));
  const block = (prefix: string): Block => {
    const norm = (name: string) => layer(prefix + name, [width]);
    const scale = (n: 0 | 1) => (naming.scales && layerScale ? tensor(prefix + naming.scales[n], [width]) : null);
    const part = (n: number): Linear =>
      typeof naming.qkv === 'string'
        ? layer(prefix + naming.qkv, [3 * width, width], { from: n * width, to: (n + 1) * width })
        : layer(prefix + naming.qkv[n], [width, width]);
    return {
      norm1: norm(naming.norm1),
      query: part(0),
      key: part(1),
      value: part(2),
      projection: layer(prefix + naming.projection, [width, width]),
      scale1: scale(0),
      norm2: norm(naming.norm2),
      mlp: mlp(prefix),
      scale2: scale(1),
    };
  };

  const mlp = (prefix: string): Mlp => {
    const named = (names: readonly string[]) =>
      present(...names.map((name) => `${prefix}${name}.weight`)).slice(0, -'.weight'.length);
    const [first, second] = [named(naming.mlpIn), named(naming.mlpOut)];
    const hidden = shapeOf(`${second}.weight`)[1] ?? 0;
    const down = layer(second, [width, hidden]);
    if (shapeOf(`${first}.weight`)[0] !== 2 * hidden) {
      return { kind: 'gelu', up: layer(first, [hidden, width]), down };
    }
    const half = (n: number) => layer(first, [2 * hidden, width], { from: n * hidden, to: (n + 1) * hidden });
    return { kind: 'swiglu', gate: half(0), up: half(1), down };
  };

  const blocks = prefixes.map(block);
  const norm = layer(naming.norm, [width]);
  const unknown = [...weights.tensors.keys()].filter((name) => !used.has(name) && !naming.unused.includes(name));
  if (unknown.length > 0) {
    const rest = unknown.length > 3 ? ` and ${unknown.length - 3} more` : '';
    throw fail(`tensor ${unknown.slice(0, 3).join(', ')}${rest} is not part of a ${naming.id} model`);
  }
  const hidden = blocks.map(({ mlp }) => mlp.down.weight.shape[1]!);
  if (new Set(hidden).size !== 1) throw fail(`the blocks have MLPs of different sizes: ${hidden.join(', ')}`);
  return {
    width,
    patchPx,
    mlpHidden: hidden[0]!,
    registerCount,
    storedGrid: Math.sqrt(tokens - positionPrefix),
    parameters,
    cls,
    registers,
    position,
    positionPrefix,
    patch,
    blocks,
    norm,
  };
}

/** One prefix a block, in order of depth. Where the numbering has a gap, the prefix of the block that is missing. */
function blockPrefixes(weights: Weights, naming: Naming): string[] {
  const prefixes = new Map<number, string>();
  for (const name of weights.tensors.keys()) {
    const match = naming.block.exec(name);
    if (match) prefixes.set(Number(match.groups?.index), match[0]);
  }
  const [number, any] = [...prefixes][0]!;
  return Array.from({ length: prefixes.size }, (_, i) => prefixes.get(i) ?? any.replace(String(number), String(i)));
}
