/**
 * A language model with random weights of any Llama shape, as folders on the Hub are laid out: what its steps cost is what a trained one's
 * cost.
 *
 * Used by the benches. Weights are 4-bit (MatMulNBits, blocks of 32, 8-bit activations), attention is GroupQueryAttention with the rotation in
 * it, as onnx-community's q4 files and ONNX Runtime GenAI's builder have it; the token table is FP32. The tokenizer is a byte-level BPE
 * whose words are numbers.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildModel, type OnnxNode, type OnnxTensor, type OnnxValue } from '../test/support/onnx-encode.js';

export interface LlamaShape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
}

export const SMOLLM2_135M: LlamaShape = {
  layers: 30,
  hidden: 576,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  feedForward: 1536,
  vocabulary: 49152,
  context: 2048,
};

const BLOCK = 32;

/** Writes `<directory>/onnx/model.onnx` and the files beside it; returns the ONNX file's path. */
export function writeLlamaFolder(directory: string, shape: LlamaShape): string {
  mkdirSync(join(directory, 'onnx'), { recursive: true });
  const file = join(directory, 'onnx', 'model.onnx');
  writeFileSync(file, llamaGraph(shape));
  const json = (name: string, value: unknown) => writeFileSync(join(directory, name), JSON.stringify(value));
  json('config.json', {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: shape.hidden,
    intermediate_size: shape.feedForward,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    num_hidden_layers: shape.layers,
    head_dim: shape.headDim,
    vocab_size: shape.vocabulary,
    max_position_embeddings: shape.context,
    eos_token_id: 0,
  });
  json('generation_config.json', { eos_token_id: 0, do_sample: false });
  json('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: '<end>',
    clean_up_tokenization_spaces: false,
    chat_template: '{% for message in messages %}{{ message.content }} {% endfor %}',
  });
  json('tokenizer.json', tokenizer(shape.vocabulary));
  return file;
}

/** Token 0 ends, 1 to 256 are the bytes, all others a space and a number. */
function tokenizer(vocabulary: number): object {
  const tokens = ['<end>', ...byteAlphabet()];
  for (let id = tokens.length; id < vocabulary; id++) tokens.push(`\u0120${id}`);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      { id: 0, content: '<end>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}

/** The printable stand-in of each byte, in GPT-2's way: bytes that print stand for themselves, the others for code points from 256 on. */
function byteAlphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCodePoint(prints ? byte : next++);
  });
}

class Weights {
  readonly all: OnnxTensor[] = [];
  #state = 0x9e3779b9;

  /** Evenly spread in -scale..scale. */
  floats(name: string, shape: readonly number[], scale: number): string {
    const data = new Float32Array(shape.reduce((product, dim) => product * dim, 1));
    for (let i = 0; i < data.length; i++) data[i] = (this.next() / 2 ** 31 - 1) * scale;
    this.all.push({ name, datatype: 'FP32', shape, data });
    return name;
  }

  ones(name: string, length: number): string {
    this.all.push({ name, datatype: 'FP32', shape: [length], data: new Float32Array(length).fill(1) });
    return name;
  }

  constant(name: string, datatype: 'INT64', values: readonly number[], shape = [values.length]): string {
    this.all.push({ name, datatype, shape, data: BigInt64Array.from(values, BigInt) });
    return name;
  }

  add(tensor: OnnxTensor): string {
    this.all.push(tensor);
    return tensor.name;
  }

  bytes(length: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return new Uint8Array(words.buffer, 0, length);
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }
}

function llamaGraph(shape: LlamaShape): Buffer {
  const { layers, hidden, heads, kvHeads, headDim, feedForward, vocabulary, context } = shape;
  const weights = new Weights();
  const nodes: OnnxNode[] = [];
  const node = (op: string, inputs: string[], output: string, attributes = {}, domain = ''): string => {
    nodes.push({ op, inputs, outputs: [output], attributes, domain, name: output });
    return output;
  };
  const linear = (input: string, name: string, from: number, to: number): string => {
    const blocks = from / BLOCK;
    const quantized = weights.add({
      name: `${name}.weight`,
      datatype: 'UINT8',
      shape: [to, blocks, BLOCK / 2],
      data: weights.bytes(to * blocks * (BLOCK / 2)),
    });
    // Weights of 4 bits are -8 to 7 times this: rows of a length at which the layers neither blow up nor vanish.
    const scales = weights.floats(`${name}.scales`, [to * blocks], 0.4 / Math.sqrt(from));
    const attributes = { K: from, N: to, bits: 4, block_size: BLOCK, accuracy_level: 4 };
    return node('MatMulNBits', [input, quantized, scales], `${name}.out`, attributes, 'com.microsoft');
  };
  const norm = (input: string, name: string): string =>
    node('SimplifiedLayerNormalization', [input, weights.ones(`${name}.weight`, hidden)], `${name}.out`, {
      axis: -1,
      epsilon: { float: 1e-5 },
      stash_type: 1,
    });
  const one = weights.constant('one', 'INT64', [1]);
  const scalarOne = weights.constant('scalar_one', 'INT64', [1], []);
  const valid = node('ReduceSum', ['attention_mask', one], 'valid', { keepdims: 1 });
  const last = node('Sub', [valid, one], 'last');
  const lengths = node('Cast', [last], 'seqlens_k', { to: 6 });
  const maskShape = node('Shape', ['attention_mask'], 'mask_shape');
  const total = node('Gather', [maskShape, scalarOne], 'total', { axis: 0 });
  const totalLength = node('Cast', [total], 'total_sequence_length', { to: 6 });
  for (const name of ['cos', 'sin'] as const) {
    const data = new Float32Array(context * (headDim / 2));
    for (let at = 0; at < data.length; at++) {
      const angle = Math.floor(at / (headDim / 2)) / 10000 ** ((2 * (at % (headDim / 2))) / headDim);
      data[at] = Math[name](angle);
    }
    weights.add({ name, datatype: 'FP32', shape: [context, headDim / 2], data });
  }
  let x = node('Gather', [weights.floats('embedding', [vocabulary, hidden], 1), 'input_ids'], 'embedded');
  const inputs: OnnxValue[] = [
    { name: 'input_ids', datatype: 'INT64', shape: ['batch_size', 'sequence_length'] },
    { name: 'attention_mask', datatype: 'INT64', shape: ['batch_size', 'past_sequence_length + sequence_length'] },
  ];
  const outputs: OnnxValue[] = [
    { name: 'logits', datatype: 'FP32', shape: ['batch_size', 'sequence_length', vocabulary] },
  ];
  const kv = (name: string, dim: string): OnnxValue => ({
    name,
    datatype: 'FP32',
    shape: ['batch_size', kvHeads, dim, headDim],
  });
  for (let layer = 0; layer < layers; layer++) {
    const at = `layers.${layer}`;
    const normed = norm(x, `${at}.input_norm`);
    const [q, k, v] = [
      linear(normed, `${at}.q`, hidden, heads * headDim),
      linear(normed, `${at}.k`, hidden, kvHeads * headDim),
      linear(normed, `${at}.v`, hidden, kvHeads * headDim),
    ];
    const past = ['key', 'value'].map((part) => `past_key_values.${layer}.${part}`);
    const present = ['key', 'value'].map((part) => `present.${layer}.${part}`);
    inputs.push(...past.map((name) => kv(name, 'past_sequence_length')));
    outputs.push(...present.map((name) => kv(name, 'past_sequence_length + sequence_length')));
    nodes.push({
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      name: `${at}.attention`,
      inputs: [q, k, v, ...past, lengths, totalLength, 'cos', 'sin'],
      outputs: [`${at}.attention.out`, ...present],
      attributes: { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, rotary_interleaved: 0 },
    });
    const attended = linear(`${at}.attention.out`, `${at}.o`, heads * headDim, hidden);
    x = node('Add', [x, attended], `${at}.attended`);
    const normedAgain = norm(x, `${at}.post_norm`);
    const gate = linear(normedAgain, `${at}.gate`, hidden, feedForward);
    const up = linear(normedAgain, `${at}.up`, hidden, feedForward);
    const silu = node('Mul', [gate, node('Sigmoid', [gate], `${at}.sigmoid`)], `${at}.silu`);
    const down = linear(node('Mul', [silu, up], `${at}.gated`), `${at}.down`, feedForward, hidden);
    x = node('Add', [x, down], `${at}.out`);
  }
  linear(norm(x, 'norm'), 'lm_head', hidden, vocabulary);
  nodes.push({ op: 'Identity', inputs: ['lm_head.out'], outputs: ['logits'] });
  return buildModel({ name: 'llama', inputs, outputs, nodes, initializers: weights.all });
}
