/**
 * Graphs with the inputs and outputs that `optimum` gives text models: input_ids, attention_mask, token_type_ids, INT64
 * [batch_size, sequence_length], and what each head makes of them. Weights are random but seeded: the same bytes every time.
 *
 * Called by huggingface.ts, and by tests and benches that want the graph alone. Without layers a token's vector is its row of a table,
 * plus 100 in each dimension where the mask is 0: pooling that takes padding along is seen at once.
 */

import { buildModel, weights } from './onnx.js';
import type { OnnxNode, OnnxTensor, OnnxValue } from './onnx-encode.js';
import { VOCABULARY } from './wordpiece.js';

/**
 * `echo`: outputs tokens, mask (and types), INT64 [batch_size, sequence_length], as they came in.
 * `hidden`: last_hidden_state, FP32 [batch_size, sequence_length, hidden].
 * `sentence`: token_embeddings, and sentence_embedding, FP32 [batch_size, hidden], their masked mean.
 * `classifier`: logits, FP32 [batch_size, labels].
 */
export type TextHead = 'echo' | 'hidden' | 'sentence' | 'classifier';

export interface TextGraphOptions {
  readonly head: TextHead;
  /** Rows of the table; the vocabulary of wordpiece.ts when not given. */
  readonly vocabularySize?: number;
  /** Width of a token's vector; 8 when not given. */
  readonly hidden?: number;
  /** Layers of self-attention; 0 when not given. */
  readonly layers?: number;
  /** Heads of each layer, a divisor of `hidden`; 4 when not given. */
  readonly heads?: number;
  /** Classes of `classifier`; 3 when not given. */
  readonly labels?: number;
  /** Fixed length of the token tensors; any when not given. */
  readonly tokens?: number;
  /** Whether there is a token_type_ids; true when not given. */
  readonly tokenTypes?: boolean;
  /** Longest text that the layers have positions for; 512 when not given. */
  readonly maxPositions?: number;
}

const tokenShape = ({ tokens }: TextGraphOptions): (string | number)[] => ['batch_size', tokens ?? 'sequence_length'];
const PADDING_NOISE = 100;

interface Parts {
  readonly nodes: OnnxNode[];
  readonly initializers: OnnxTensor[];
}

/** The bytes of a text model's ONNX file. */
export function textGraph(options: TextGraphOptions): Buffer {
  const { head, hidden = 8, tokenTypes = true } = options;
  const inputs = tokenInputs(tokenTypes, tokenShape(options));
  const parts: Parts = { nodes: [], initializers: [] };
  const outputs: OnnxValue[] = [];
  if (head === 'echo') {
    const names = ['tokens', 'mask', 'types'].slice(0, inputs.length);
    for (const [i, name] of names.entries()) {
      parts.nodes.push({ op: 'Identity', inputs: [inputs[i]!.name], outputs: [name] });
      outputs.push({ name, datatype: 'INT64', shape: tokenShape(options) });
    }
  } else {
    const perToken = head === 'sentence' ? 'token_embeddings' : 'last_hidden_state';
    encoder(parts, perToken, options);
    if (head !== 'classifier')
      outputs.push({ name: perToken, datatype: 'FP32', shape: [...tokenShape(options), hidden] });
    if (head === 'sentence') {
      maskedMean(parts, perToken, 'sentence_embedding');
      outputs.push({ name: 'sentence_embedding', datatype: 'FP32', shape: ['batch_size', hidden] });
    }
    if (head === 'classifier') {
      const labels = options.labels ?? 3;
      maskedMean(parts, perToken, 'mean');
      parts.nodes.push({ op: 'Gemm', inputs: ['mean', 'classes.w', 'classes.b'], outputs: ['logits'] });
      parts.initializers.push(weights('classes.w', [hidden, labels], 71), weights('classes.b', [labels], 72));
      outputs.push({ name: 'logits', datatype: 'FP32', shape: ['batch_size', labels] });
    }
  }
  return buildModel({ name: `text_${head}`, inputs, outputs, ...parts });
}

function tokenInputs(tokenTypes: boolean, shape: (string | number)[]): OnnxValue[] {
  const names = ['input_ids', 'attention_mask', ...(tokenTypes ? ['token_type_ids'] : [])];
  return names.map((name) => ({ name, datatype: 'INT64', shape }));
}

/** From the token tensors to `output`, one vector per token. */
function encoder({ nodes, initializers }: Parts, output: string, options: TextGraphOptions): void {
  const { hidden = 8, layers = 0, tokenTypes = true, vocabularySize = VOCABULARY.length } = options;
  initializers.push({
    ...weights('table', [vocabularySize, hidden], 61),
    data: scattered([vocabularySize, hidden], 61),
  });
  nodes.push({ op: 'Gather', inputs: ['table', 'input_ids'], outputs: ['words'] });
  let state = 'words';
  if (tokenTypes) {
    initializers.push({ name: 'types', datatype: 'FP32', shape: [2, hidden], data: scattered([2, hidden], 62) });
    nodes.push(
      { op: 'Gather', inputs: ['types', 'token_type_ids'], outputs: ['typed'] },
      { op: 'Add', inputs: [state, 'typed'], outputs: [(state = 'words_typed')] },
    );
  }
  if (layers === 0) {
    const noise = new Float32Array(2 * hidden).fill(PADDING_NOISE, 0, hidden);
    initializers.push({ name: 'noise', datatype: 'FP32', shape: [2, hidden], data: noise });
    nodes.push(
      { op: 'Gather', inputs: ['noise', 'attention_mask'], outputs: ['noisy'] },
      { op: 'Add', inputs: [state, 'noisy'], outputs: [output] },
    );
    return;
  }
  state = positions({ nodes, initializers }, state, options);
  attentionBias({ nodes, initializers });
  for (let layer = 0; layer < layers; layer++) {
    const to = layer === layers - 1 ? output : `layer${layer}`;
    attentionLayer(
      { nodes, initializers },
      { from: state, to, prefix: `l${layer}.`, options, seed: 100 * (layer + 1) },
    );
    state = to;
  }
}

/** Adds each position's own vector. */
function positions({ nodes, initializers }: Parts, from: string, { hidden = 8, maxPositions = 512 }: TextGraphOptions) {
  initializers.push(
    { name: 'places', datatype: 'FP32', shape: [maxPositions, hidden], data: scattered([maxPositions, hidden], 63) },
    ...(['zero', 'one'] as const).map((name, n) => ({ name, datatype: 'INT64' as const, shape: [], data: [n] })),
  );
  nodes.push(
    { op: 'Shape', inputs: ['input_ids'], outputs: ['shape'] },
    { op: 'Gather', inputs: ['shape', 'one'], outputs: ['length'] },
    { op: 'Range', inputs: ['zero', 'length', 'one'], outputs: ['indices'] },
    { op: 'Gather', inputs: ['places', 'indices'], outputs: ['placed'] },
    { op: 'Add', inputs: [from, 'placed'], outputs: ['words_placed'] },
  );
  return 'words_placed';
}

/** `bias`: 0 where the mask is 1, -10000 where it is 0; [batch_size, 1, 1, sequence_length]. */
function attentionBias({ nodes, initializers }: Parts): void {
  initializers.push(
    { name: 'bias.axes', datatype: 'INT64', shape: [2], data: [1, 2] },
    { name: 'bias.one', datatype: 'FP32', shape: [], data: [1] },
    { name: 'bias.far', datatype: 'FP32', shape: [], data: [10_000] },
  );
  nodes.push(
    { op: 'Cast', inputs: ['attention_mask'], outputs: ['bias.mask'], attributes: { to: 1 } },
    { op: 'Sub', inputs: ['bias.mask', 'bias.one'], outputs: ['bias.off'] },
    { op: 'Mul', inputs: ['bias.off', 'bias.far'], outputs: ['bias.flat'] },
    { op: 'Unsqueeze', inputs: ['bias.flat', 'bias.axes'], outputs: ['bias'] },
  );
}

interface LayerOptions {
  readonly from: string;
  readonly to: string;
  readonly prefix: string;
  readonly options: TextGraphOptions;
  readonly seed: number;
}

/** A layer as BERT has it: attention, add and normalize, two dense layers with GELU between, add and normalize. */
function attentionLayer({ nodes, initializers }: Parts, { from, to, prefix: p, options, seed }: LayerOptions): void {
  const { hidden = 8, heads = 4 } = options;
  const size = hidden / heads;
  const node = (op: string, inputs: string[], output: string, attributes?: OnnxNode['attributes']): string => {
    nodes.push({ op, inputs, outputs: [output], ...(attributes && { attributes }) });
    return output;
  };
  const constant = (name: string, data: number[]): string => {
    initializers.push({ name: p + name, datatype: 'FP32', shape: [], data });
    return p + name;
  };
  const shape = (name: string, data: number[]): string => {
    initializers.push({ name: p + name, datatype: 'INT64', shape: [data.length], data });
    return p + name;
  };
  let next = seed;
  const dense = (name: string, input: string, rows: number, columns: number): string => {
    initializers.push(weights(`${p}${name}.w`, [rows, columns], next++), weights(`${p}${name}.b`, [columns], next++));
    return node('Add', [node('MatMul', [input, `${p}${name}.w`], `${p}${name}.xw`), `${p}${name}.b`], `${p}${name}`);
  };
  const normalize = (name: string, input: string, output: string): string => {
    const scale = new Float32Array(hidden).fill(1);
    initializers.push(
      { name: `${p}${name}.s`, datatype: 'FP32', shape: [hidden], data: scale },
      { name: `${p}${name}.b`, datatype: 'FP32', shape: [hidden], data: new Float32Array(hidden) },
    );
    const attributes = { axis: -1, epsilon: { float: 1e-12 } };
    return node('LayerNormalization', [input, `${p}${name}.s`, `${p}${name}.b`], output, attributes);
  };
  const split = shape('split', [0, 0, heads, size]);
  const headsOf = (name: string, perm: number[]): string =>
    node('Transpose', [node('Reshape', [dense(name, from, hidden, hidden), split], `${p}${name}.r`)], `${p}${name}.t`, {
      perm,
    });
  const scores = node('MatMul', [headsOf('q', [0, 2, 1, 3]), headsOf('k', [0, 2, 3, 1])], `${p}scores`);
  const scaled = node('Mul', [scores, constant('scale', [1 / Math.sqrt(size)])], `${p}scaled`);
  const shares = node('Softmax', [node('Add', [scaled, 'bias'], `${p}masked`)], `${p}shares`, { axis: -1 });
  const context = node('MatMul', [shares, headsOf('v', [0, 2, 1, 3])], `${p}context`);
  const joined = node(
    'Reshape',
    [node('Transpose', [context], `${p}context.t`, { perm: [0, 2, 1, 3] }), shape('join', [0, 0, hidden])],
    `${p}joined`,
  );
  const attended = node('Add', [from, dense('o', joined, hidden, hidden)], `${p}attended`);
  const middle = normalize('n1', attended, `${p}middle`);
  const wide = dense('up', middle, hidden, 4 * hidden);
  const erf = node('Erf', [node('Div', [wide, constant('root', [Math.SQRT2])], `${p}g.x`)], `${p}g.erf`);
  const half = node('Mul', [wide, node('Add', [erf, constant('g.one', [1])], `${p}g.sum`)], `${p}g.prod`);
  const active = node('Mul', [half, constant('g.half', [0.5])], `${p}g`);
  const mixed = node('Add', [middle, dense('down', active, 4 * hidden, hidden)], `${p}mixed`);
  normalize('n2', mixed, to);
}

/** Mean over the tokens whose mask is 1: [batch_size, sequence_length, n] -> [batch_size, n]. */
function maskedMean({ nodes, initializers }: Parts, from: string, to: string): void {
  initializers.push(
    { name: 'mean.last', datatype: 'INT64', shape: [1], data: [-1] },
    { name: 'mean.tokens', datatype: 'INT64', shape: [1], data: [1] },
  );
  nodes.push(
    { op: 'Cast', inputs: ['attention_mask'], outputs: ['mean.mask'], attributes: { to: 1 } },
    { op: 'Unsqueeze', inputs: ['mean.mask', 'mean.last'], outputs: ['mean.wide'] },
    { op: 'Mul', inputs: [from, 'mean.wide'], outputs: ['mean.kept'] },
    { op: 'ReduceSum', inputs: ['mean.kept', 'mean.tokens'], outputs: ['mean.sum'], attributes: { keepdims: 0 } },
    { op: 'ReduceSum', inputs: ['mean.wide', 'mean.tokens'], outputs: ['mean.count'], attributes: { keepdims: 0 } },
    { op: 'Div', inputs: ['mean.sum', 'mean.count'], outputs: [to] },
  );
}

/** Table entries between -1 and 1: a table's rows are looked up, not multiplied, so they needn't shrink with its length. */
function scattered(shape: readonly [number, number], seed: number): Float32Array {
  const data = weights('', shape, seed).data as Float32Array;
  const scale = Math.sqrt(shape[0]) / 1.7;
  return data.map((x) => x * scale);
}
