/**
 * Finds where a graph without position ids counts positions itself, so that they can be fed in their place.
 *
 *   Range(past, past + tokens) -> Unsqueeze -> [1, tokens] -> ... -> Cos, Sin
 *
 * Exports of Gemma have this form. The count is right for one sequence alone; in company each has its own, [batch, tokens].
 *
 * Called by workers/decoder.ts. Only the rotation is looked at: the mask counts with the same Range, and rightly so.
 */
import type { ModelSkeleton } from './onnx-graph.js';

/** Inputs of nodes, in the order of the file, that take positions [1, tokens], INT64; undefined where the graph has another form. */
export function countedPositions({ graph }: ModelSkeleton): ReadonlyMap<number, readonly number[]> | undefined {
  const producers = new Map<string, number>();
  for (const [index, node] of graph.nodes.entries()) for (const output of node.outputs) producers.set(output, index);
  const rotation = new Set<number>();
  const open = graph.nodes.flatMap(({ op }, index) => (op === 'Cos' || op === 'Sin' ? [index] : []));
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    if (rotation.has(index)) continue;
    rotation.add(index);
    for (const input of graph.nodes[index]!.inputs) {
      const producer = producers.get(input);
      if (producer !== undefined) open.push(producer);
    }
  }
  const counted = [...rotation].filter((index) => {
    const { op, inputs } = graph.nodes[index]!;
    const from = producers.get(inputs[0] ?? '');
    return op === 'Unsqueeze' && from !== undefined && graph.nodes[from]!.op === 'Range';
  });
  if (counted.length !== 1) return undefined;
  const [positions] = graph.nodes[counted[0]!]!.outputs;
  const takers = new Map<number, number[]>();
  for (const index of rotation) {
    const at = graph.nodes[index]!.inputs.flatMap((input, i) => (input === positions ? [i] : []));
    if (at.length > 0) takers.set(index, at);
  }
  return takers;
}
