/**
 * Finds the head of a decoder: what turns hidden states into logits, for every token although only the last one's are wanted.
 *
 * Called by workers/onnx-tap.ts. Goes back from the logits as long as every token is treated by itself.
 */
import type { ModelSkeleton, NodeSkeleton } from './onnx-graph.js';

/** Operators that treat every token by itself and stand between the head and the logits. */
const UNARY = new Set(['Cast', 'Identity', 'Tanh']);
const BINARY = new Set(['Add', 'Sub', 'Mul', 'Div']);
/** The head: activations first, then weights. */
const HEADS = new Set(['MatMul', 'MatMulNBits', 'MatMulBnb4', 'FusedMatMul']);

/** Number of the node whose first input are the hidden states that logits are made of; undefined where the graph has another form. */
export function headInput({ graph }: ModelSkeleton, logits: string): number | undefined {
  const producers = new Map<string, number>();
  for (const [index, node] of graph.nodes.entries()) for (const output of node.outputs) producers.set(output, index);
  const constants = new Set(graph.initializers.map(({ name }) => name));
  const isConstant = (value: string, depth = 0): boolean => {
    if (value === '' || constants.has(value)) return true;
    const producer = producers.get(value);
    if (producer === undefined || depth > 8) return false;
    return graph.nodes[producer]!.inputs.every((input) => isConstant(input, depth + 1));
  };
  const maker = (value: string | undefined, op: string): NodeSkeleton | undefined => {
    const node = graph.nodes[producers.get(value ?? '') ?? -1];
    return node?.op === op ? node : undefined;
  };
  /** The node that rounds hidden states to 8 bits, where `product` and `scale` are what a dynamically quantised head is made of. */
  const rounded = (product: string, scale: string): number | undefined => {
    const integers = maker(maker(product, 'Cast')?.inputs[0], 'MatMulInteger');
    const scales = maker(scale, 'Mul');
    const quantised = integers && producers.get(integers.inputs[0]!);
    const node = graph.nodes[quantised ?? -1];
    if (!scales || node?.op !== 'DynamicQuantizeLinear' || !isConstant(integers!.inputs[1]!)) return undefined;
    // Others that take what is rounded would miss the tokens before the last.
    const takers = graph.nodes.filter(({ inputs }) => inputs.some((input) => node.outputs.includes(input)));
    return takers.every((taker) => taker === integers || taker === scales) ? quantised : undefined;
  };
  for (let value: string | undefined = logits; value !== undefined; ) {
    const index = producers.get(value);
    if (index === undefined) return undefined;
    const node: NodeSkeleton = graph.nodes[index]!;
    if (HEADS.has(node.op)) {
      const [activations, ...weights] = node.inputs;
      const simple = !node.attributes.some(({ name, int }) => /^trans/.test(name) && name !== 'transB' && int);
      const known = simple && !isConstant(activations!) && weights.every((weight) => isConstant(weight));
      return known ? index : undefined;
    }
    const open: string[] = node.inputs.filter((input) => !isConstant(input));
    if (node.op === 'Mul' && open.length === 2) return rounded(open[0]!, open[1]!) ?? rounded(open[1]!, open[0]!);
    value = (UNARY.has(node.op) || BINARY.has(node.op)) && open.length === 1 ? open[0] : undefined;
  }
  return undefined;
}
