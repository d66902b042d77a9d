import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildGraph, type GraphOptions } from '../../packages/core/src/model/convert/graph.ts';
import { recogniseNaming } from '../../packages/core/src/model/convert/names/naming.ts';
import type { OnnxGraph, OnnxNode } from '../../packages/core/src/model/convert/onnx-proto.ts';
import { writeRandomDinov2 } from '../../packages/core/src/model/convert/random-weights.ts';
import { openWeights } from '../../packages/core/src/model/convert/read/open.ts';
import { findTransformer } from '../../packages/core/src/model/convert/transformer.ts';
import { writeGraph } from '../../packages/core/src/model/convert/write.ts';
import { type LoadedGraph, loadGraph } from '../../packages/core/src/model/onnx-engine.ts';
import { compareVectors, PROBE_TILES, probeTiles } from '../../packages/core/src/model/probe.ts';

/**
 * `node test/bench/model-graphs.ts [depth] [width] [rounds] [peer command]`: a slice of a ViT (by default 4 blocks of ViT-g), as several graphs,
 * in interleaved rounds on one thread. Prints the CPU seconds of the cheapest round: what else the machine does counts for nothing. A
 * peer is a process that, for each line it reads, runs a batch of 4 and writes the CPU seconds a tile.
 *
 * Forms of a graph: `plain` is what the converter writes; `MHA` has com.microsoft.MultiHeadAttention for the Attention of opset 23,
 * `SkipLN` com.microsoft.SkipLayerNormalization for each sum and the norm behind it.
 */
const [depth = '4', width = '1536', rounds = '5', ...peer] = process.argv.slice(2);
const PX = 224;

const OPTIONS: Omit<GraphOptions, 'precision'> = {
  inputPx: PX,
  heads: Number(width) / 64,
  eps: 1e-6,
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
  embedding: 'cls+mean',
  patchGrid: false,
  posInterpolation: 'bicubic',
};

const dir = mkdtempSync(join(tmpdir(), 'nightshift-graphs-'));
try {
  await writeRandomDinov2(dir, { depth: Number(depth), width: Number(width) });
  const weights = await openWeights(dir);
  const { naming } = recogniseNaming(weights)!;
  const model = findTransformer(weights, naming);
  const plain = buildGraph(model, { ...OPTIONS, precision: 'fp32' });
  const forms: Record<string, OnnxGraph> = {
    'fp32 plain': plain,
    'fp32 MHA': withMultiHeadAttention(plain),
    'fp32 SkipLN': withSkipLayerNorm(plain),
    'fp32 MHA + SkipLN': withSkipLayerNorm(withMultiHeadAttention(plain)),
    'fp16 plain': buildGraph(model, { ...OPTIONS, precision: 'fp16' }),
    'int8 plain': buildGraph(model, { ...OPTIONS, precision: 'int8' }),
  };
  const tiles = probeTiles(PX);
  const run = async (graph: LoadedGraph) =>
    (await graph.run({ tiles, count: PROBE_TILES, outputs: ['embedding'] }))[0]!;

  const loaded: { name: string; graph: LoadedGraph; vectors: Float32Array; seconds: number }[] = [];
  for (const [name, form] of Object.entries(forms)) {
    const at = join(dir, name.replaceAll(/\W+/g, '-'));
    await mkdir(at);
    await writeGraph(at, form, () => {});
    const graph = await loadGraph({ graph: join(at, 'model.onnx'), device: 'cpu', threads: 1, inputPx: PX }, 1);
    loaded.push({ name, graph, vectors: await run(graph), seconds: Number.POSITIVE_INFINITY });
  }
  await weights.close();
  const other = peer.length > 0 ? await startPeer(peer.join(' ')) : null;
  const peerSeconds: Record<string, number> = {};
  for (let round = 0; round < Number(rounds); round++) {
    for (const form of loaded) {
      const before = cpuSeconds(form.graph.engine!.pid!);
      await run(form.graph);
      form.seconds = Math.min(form.seconds, (cpuSeconds(form.graph.engine!.pid!) - before) / PROBE_TILES);
    }
    for (const [name, seconds] of Object.entries((await other?.round()) ?? {})) {
      peerSeconds[name] = Math.min(peerSeconds[name] ?? Number.POSITIVE_INFINITY, seconds);
    }
  }
  const [first] = loaded;
  for (const { name, graph, vectors, seconds } of loaded) {
    const { cosine } = compareVectors(vectors, first!.vectors, 2 * Number(width));
    console.log(
      `${name.padEnd(20)} ${seconds.toFixed(3)} CPU s/tile, ${(first!.seconds / seconds).toFixed(2)} of plain fp32's speed, cosine ${cosine.toFixed(7)}`,
    );
    await graph.close();
  }
  for (const [name, seconds] of Object.entries(peerSeconds)) {
    console.log(
      `${name.padEnd(20)} ${seconds.toFixed(3)} CPU s/tile, ${(first!.seconds / seconds).toFixed(2)} of plain fp32's speed (peer)`,
    );
  }
  other?.stop();
} finally {
  rmSync(dir, { recursive: true, force: true });
}

function withMultiHeadAttention(graph: OnnxGraph): OnnxGraph {
  const nodes = graph.nodes.map((node) =>
    node.op === 'Attention'
      ? { ...node, op: 'com.microsoft.MultiHeadAttention', attributes: { num_heads: { int: OPTIONS.heads } } }
      : node,
  );
  return { ...graph, nodes };
}

/** Each sum of the residual stream and the norm that reads it become one node. */
function withSkipLayerNorm(graph: OnnxGraph): OnnxGraph {
  const sums = new Map(graph.nodes.filter(({ op }) => op === 'Add').map((node) => [node.name, node]));
  const fused = new Map<string, OnnxNode>();
  const nodes = graph.nodes.map((node): OnnxNode => {
    const sum = node.op === 'LayerNormalization' ? sums.get(node.inputs[0]!) : undefined;
    if (!sum || !/residual/.test(sum.name)) return node;
    const [, gamma, beta] = node.inputs;
    const made: OnnxNode = {
      op: 'com.microsoft.SkipLayerNormalization',
      name: node.name,
      inputs: [sum.inputs[0]!, sum.inputs[1]!, gamma!, beta!],
      outputs: [node.name, '', '', sum.name],
      attributes: { epsilon: { float: OPTIONS.eps } },
    };
    fused.set(sum.name, made);
    return made;
  });
  return { ...graph, nodes: nodes.filter(({ op, name }) => op !== 'Add' || !fused.has(name)) };
}

/** User and system time of a process. */
function cpuSeconds(pid: number): number {
  if (!existsSync('/proc')) throw new Error('CPU time of another process is read from /proc: run this on Linux');
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A process that answers a line with `{"name": cpu seconds a tile, ...}`. */
async function startPeer(command: string) {
  const { spawn } = await import('node:child_process');
  const { createInterface } = await import('node:readline');
  const child = spawn(command, { shell: true, stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async round(): Promise<Record<string, number>> {
      child.stdin.write('go\n');
      return JSON.parse((await lines.next()).value ?? '{}');
    },
    stop: () => child.stdin.end(),
  };
}
