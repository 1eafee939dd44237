/**
 * Finds where a graph takes other rotations for long sequences than for short ones, so that one of the two can be had for all.
 *
 *   Shape(attention_mask) -> Greater(4096) -> If -> cosines, sines of GroupQueryAttention
 *
 * ONNX Runtime GenAI's builder writes it so for models with LongRoPE (Phi 3 and 4). The length is that of the longest sequence of a run:
 * in company, the rotation of one would depend on the others, and keys of one sequence would be of both kinds.
 *
 * Called by workers/decoder.ts.
 */
import type { ModelSkeleton, NodeSkeleton, TensorSkeleton } from './onnx-graph.js';

export interface RotationSwitch {
  /** Number of the node that chooses; its first input says whether the rotations for long sequences are taken. */
  readonly node: number;
  /** Most tokens of what is short. */
  readonly shortTokens: number;
}

/** Inputs of GroupQueryAttention. */
const ROTATIONS = [7, 8];

/** Undefined where the graph has one rotation for all lengths. */
export function rotationSwitch({ graph }: ModelSkeleton): RotationSwitch | undefined {
  const makers = new Map<string, number>();
  for (const [index, node] of graph.nodes.entries()) for (const output of node.outputs) makers.set(output, index);
  const maker = (value: string | undefined): NodeSkeleton | undefined => graph.nodes[makers.get(value ?? '') ?? -1];
  const attention = graph.nodes.find(({ op }) => op === 'GroupQueryAttention');
  const chosen = ROTATIONS.map((input) => makers.get(attention?.inputs[input] ?? '') ?? -1);
  const [node = -1] = chosen;
  if (graph.nodes[node]?.op !== 'If' || chosen.some((other) => other !== node)) return undefined;
  const condition = maker(graph.nodes[node]!.inputs[0]);
  if (condition?.op !== 'Greater') return undefined;
  const [, limit] = condition.inputs;
  const constant =
    graph.initializers.find(({ name }) => name === limit) ??
    maker(limit)?.attributes.find(({ name }) => name === 'value')?.tensor;
  const shortTokens = constant && integer(constant);
  return shortTokens === undefined ? undefined : { node, shortTokens };
}

/** The number of a constant that has one, INT64 or INT32 in its plain form. */
function integer({ raw }: TensorSkeleton): number | undefined {
  if (raw?.length === 8) return Number(raw.readBigInt64LE());
  return raw?.length === 4 ? raw.readInt32LE() : undefined;
}
