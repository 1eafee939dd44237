/**
 * A model file for llama.cpp with random weights of any Llama shape (GGUF version 3): 4-bit blocks (Q4_0), norms in FP32.
 *
 * Used by `stream-peers.ts`, beside the same shape in ONNX. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { LlamaShape } from './llama-folder.js';

/** Types of values and of tensors, as the format numbers them. */
const UINT32 = 4;
const INT32 = 5;
const FLOAT32 = 6;
const STRING = 8;
const ARRAY = 9;
const F32 = 0;
const Q4_0 = 2;

const ALIGNMENT = 32;
const BLOCK = 32;
/** Half-precision scale and 32 numbers of 4 bits. */
const BLOCK_BYTES = 2 + BLOCK / 2;

interface GgufTensor {
  readonly name: string;
  /** The innermost first. */
  readonly shape: readonly number[];
  readonly type: typeof F32 | typeof Q4_0;
}

export function writeGguf(path: string, shape: LlamaShape, tokens: readonly string[]): void {
  const tensors = tensorsOf(shape);
  const head = new Writer();
  head.raw(Buffer.from('GGUF'));
  head.u32(3);
  head.u64(tensors.length);
  const values = metadata(shape, tokens);
  head.u64(values.length);
  for (const write of values) write(head);
  let offset = 0;
  for (const { name, shape: dims, type } of tensors) {
    head.string(name);
    head.u32(dims.length);
    for (const dim of dims) head.u64(dim);
    head.u32(type);
    head.u64(offset);
    offset += padded(byteLength(dims, type));
  }
  const file = openSync(path, 'w');
  const text = head.bytes();
  writeSync(file, text);
  writeSync(file, Buffer.alloc(padded(text.length) - text.length));
  const random = randomWords();
  for (const { shape: dims, type } of tensors) {
    const bytes = Buffer.alloc(padded(byteLength(dims, type)));
    if (type === F32) for (let at = 0; at < bytes.length; at += 4) bytes.writeFloatLE(1, at);
    else fillBlocks(bytes, byteLength(dims, type), 0.2 / Math.sqrt(dims[0]!), random);
    writeSync(file, bytes);
  }
  closeSync(file);
}

function tensorsOf({ layers, hidden, heads, kvHeads, headDim, feedForward, vocabulary }: LlamaShape): GgufTensor[] {
  const linear = (name: string, from: number, to: number): GgufTensor => ({ name, shape: [from, to], type: Q4_0 });
  const norm = (name: string): GgufTensor => ({ name, shape: [hidden], type: F32 });
  const all = [linear('token_embd.weight', hidden, vocabulary)];
  for (let layer = 0; layer < layers; layer++) {
    const at = (name: string) => `blk.${layer}.${name}.weight`;
    all.push(norm(at('attn_norm')), norm(at('ffn_norm')));
    all.push(linear(at('attn_q'), hidden, heads * headDim), linear(at('attn_k'), hidden, kvHeads * headDim));
    all.push(linear(at('attn_v'), hidden, kvHeads * headDim), linear(at('attn_output'), heads * headDim, hidden));
    all.push(linear(at('ffn_gate'), hidden, feedForward), linear(at('ffn_up'), hidden, feedForward));
    all.push(linear(at('ffn_down'), feedForward, hidden));
  }
  all.push(norm('output_norm.weight'), linear('output.weight', hidden, vocabulary));
  return all;
}

function metadata(shape: LlamaShape, tokens: readonly string[]): ((writer: Writer) => void)[] {
  const entry =
    (key: string, type: number, write: (writer: Writer) => void) =>
    (writer: Writer): void => {
      writer.string(key);
      writer.u32(type);
      write(writer);
    };
  const text = (key: string, value: string) => entry(key, STRING, (writer) => writer.string(value));
  const count = (key: string, value: number) => entry(key, UINT32, (writer) => writer.u32(value));
  const real = (key: string, value: number) => entry(key, FLOAT32, (writer) => writer.f32(value));
  const list = <T>(key: string, type: number, items: readonly T[], write: (writer: Writer, item: T) => void) =>
    entry(key, ARRAY, (writer) => {
      writer.u32(type);
      writer.u64(items.length);
      for (const item of items) write(writer, item);
    });
  return [
    text('general.architecture', 'llama'),
    text('general.name', 'random'),
    count('llama.context_length', shape.context),
    count('llama.embedding_length', shape.hidden),
    count('llama.block_count', shape.layers),
    count('llama.feed_forward_length', shape.feedForward),
    count('llama.attention.head_count', shape.heads),
    count('llama.attention.head_count_kv', shape.kvHeads),
    count('llama.rope.dimension_count', shape.headDim),
    count('llama.vocab_size', shape.vocabulary),
    real('llama.attention.layer_norm_rms_epsilon', 1e-5),
    real('llama.rope.freq_base', 10000),
    text('tokenizer.ggml.model', 'gpt2'),
    text('tokenizer.ggml.pre', 'default'),
    list('tokenizer.ggml.tokens', STRING, tokens, (writer, token) => writer.string(token)),
    // 1 is an ordinary token, 3 a special one.
    list('tokenizer.ggml.token_type', INT32, tokens, (writer, token) => writer.u32(token === tokens[0] ? 3 : 1)),
    list('tokenizer.ggml.merges', STRING, [] as string[], (writer, merge) => writer.string(merge)),
    count('tokenizer.ggml.bos_token_id', 0),
    count('tokenizer.ggml.eos_token_id', 0),
  ];
}

class Writer {
  readonly #parts: Buffer[] = [];

  raw(bytes: Buffer): void {
    this.#parts.push(bytes);
  }

  u32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.raw(bytes);
  }

  u64(value: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.raw(bytes);
  }

  f32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    this.raw(bytes);
  }

  string(text: string): void {
    this.u64(Buffer.byteLength(text));
    this.raw(Buffer.from(text));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function byteLength(dims: readonly number[], type: number): number {
  const elements = dims.reduce((product, dim) => product * dim, 1);
  return type === F32 ? 4 * elements : (elements / BLOCK) * BLOCK_BYTES;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function fillBlocks(bytes: Buffer, length: number, scale: number, random: () => number): void {
  const half = halfOf(scale);
  for (let at = 0; at < length; at += BLOCK_BYTES) {
    bytes.writeUInt16LE(half, at);
    for (let word = 0; word < BLOCK / 8; word++) bytes.writeUInt32LE(random(), at + 2 + 4 * word);
  }
}

/** Bits of a positive half-precision number, rounded down; for numbers that are not tiny. */
function halfOf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  return ((exponent + 15) << 10) | Math.floor((value / 2 ** exponent - 1) * 1024);
}

function randomWords(): () => number {
  let x = 0x9e3779b9;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}
