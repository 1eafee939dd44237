/**
 * One embedding per text out of the model's vectors per token, as sentence-transformers' modules say: an output that the file does not have.
 *
 *   source [rows, tokens, hidden] + attention_mask [rows, tokens]  ──▶  sentence_embedding [rows, modes x hidden]
 *
 * Called by workers/session.ts, which has one for each session with a PoolingSpec. Owns the choice of the source and its own scratch
 * memory. Sums are kept in double precision and stored as FP32. Must not allocate per element or per row.
 */
import type { Tensor } from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { PoolingSpec, SessionTensor } from '#src/runtime/messages';

/** The output that pooling adds. */
export const EMBEDDING = 'sentence_embedding';
/** The input that says which tokens are real. */
export const MASK = 'attention_mask';

/** Exports of one name; they come before others of the same form. */
const SOURCES = ['last_hidden_state', 'token_embeddings'];
/** What sentence-transformers divides by at least: no real token, or a vector of zeros, is no division by zero. */
const LEAST_COUNT = 1e-9;
const LEAST_NORM = 1e-12;
/** What it takes for the greatest of no numbers. */
const LEAST_VALUE = -1e9;

/** The region laid out for the embeddings is of another size; the run is to be repeated without one. */
export class PoolingSurprise extends Error {}

/**
 * Undefined where there is nothing to add: no `spec`, the file has such an output itself, or its outputs, which are `outputs`, have
 * nothing to pool; the last is served as it is, and whoever asks for an embedding is told.
 */
export function createPooling(spec: PoolingSpec | undefined, outputs: readonly SessionTensor[]): Pooling | undefined {
  if (!spec || outputs.some(({ name }) => name === EMBEDDING)) return undefined;
  const fit = outputs.filter(isPerToken);
  const source = fit.find(({ name }) => SOURCES.includes(name)) ?? fit[0];
  return source && new Pooling(spec, source);
}

export class Pooling {
  /** Name of the output that is pooled. */
  readonly source: string;
  /** The output it adds, as if the file declared it. */
  readonly output: SessionTensor;
  readonly #spec: PoolingSpec;
  /** One row's embedding before it is stored, by mode. */
  #sums: readonly Float64Array[] = [];
  #real = new Uint8Array(0);

  constructor(spec: PoolingSpec, source: SessionTensor) {
    const [batch, , hidden] = source.dims as [number | string, number | string, number | string];
    const count = spec.modes.length;
    const width = typeof hidden === 'number' ? hidden * count : count === 1 ? hidden : '';
    this.source = source.name;
    this.output = { name: EMBEDDING, ortType: 'float32', dims: [batch, width] };
    this.#spec = spec;
  }

  /**
   * Pools `source`; without `mask` every token is real. The result goes into `target` where that is given, of which it must be the size
   * (throws {@link PoolingSurprise}). Throws INVALID_ARGUMENT for a mask of another shape, INTERNAL for a source of another rank.
   */
  run(source: Tensor, mask: Tensor | undefined, target?: Float32Array): { dims: number[]; data: Float32Array } {
    const [rows, tokens, hidden] = source.dims;
    if (source.dims.length !== 3) {
      throw new ServeError(
        'INTERNAL',
        `output '${this.source}' has shape [${source.dims.join(',')}], but embeddings are pooled from [batch, tokens, hidden]`,
      );
    }
    const width = hidden! * this.#spec.modes.length;
    const dims = [rows!, width];
    if (target && target.length !== rows! * width) throw new PoolingSurprise();
    const data = target ?? new Float32Array(rows! * width);
    const values = floats(source.data as Float32Array | Uint16Array);
    const real = this.#realTokens(mask, rows!, tokens!);
    if (this.#sums[0]?.length !== hidden) this.#sums = this.#spec.modes.map(() => new Float64Array(hidden!));
    let at = 0;
    for (let row = 0; row < rows!; row++) {
      this.#poolRow(values, real, row, tokens!, hidden!);
      const length = this.#spec.normalize ? Math.max(norm(this.#sums), LEAST_NORM) : 1;
      for (const sums of this.#sums) for (let i = 0; i < sums.length; i++) data[at++] = sums[i]! / length;
    }
    return { dims, data };
  }

  /** One row's embedding, not normalized, into the sums. */
  #poolRow(values: Float32Array, real: Uint8Array, row: number, tokens: number, hidden: number): void {
    const from = row * tokens;
    let first = -1;
    let last = -1;
    for (let token = 0; token < tokens; token++) {
      if (real[from + token] === 0) continue;
      if (first < 0) first = token;
      last = token;
    }
    const { modes } = this.#spec;
    const at = (token: number): number => (from + token) * hidden;
    for (let i = 0; i < modes.length; i++) {
      const sums = this.#sums[i]!;
      const mode = modes[i]!;
      switch (mode) {
        case 'cls':
          if (tokens === 0) sums.fill(0);
          // Padding on the left comes before it.
          else copy(sums, values, at(Math.max(first, 0)));
          break;
        case 'lasttoken':
          if (last < 0) sums.fill(0);
          else copy(sums, values, at(last));
          break;
        case 'max':
          if (first < 0) sums.fill(LEAST_VALUE);
          else copy(sums, values, at(first));
          for (let token = first + 1; token <= last; token++) {
            if (real[from + token] !== 0) raise(sums, values, at(token));
          }
          break;
        case 'mean':
        case 'mean_sqrt_len':
        case 'weightedmean': {
          sums.fill(0);
          let weights = 0;
          for (let token = Math.max(first, 0); token <= last; token++) {
            if (real[from + token] === 0) continue;
            // By the place in the text: that of padding on the left would make it depend on the batch.
            const weight = mode === 'weightedmean' ? token - first + 1 : 1;
            weights += weight;
            addTo(sums, values, at(token), weight);
          }
          const divisor = Math.max(weights, LEAST_COUNT);
          divide(sums, mode === 'mean_sqrt_len' ? Math.sqrt(divisor) : divisor);
          break;
        }
        default:
          mode satisfies never;
      }
    }
  }

  /** 1 for each real token, row by row; whatever is not 0 in the mask. */
  #realTokens(mask: Tensor | undefined, rows: number, tokens: number): Uint8Array {
    const count = rows * tokens;
    if (this.#real.length < count) this.#real = new Uint8Array(count);
    const real = this.#real;
    if (!mask) return real.fill(1, 0, count);
    if (mask.dims.length !== 2 || mask.dims[0] !== rows || mask.dims[1] !== tokens) {
      throw new ServeError(
        'INVALID_ARGUMENT',
        `input '${MASK}' has shape [${mask.dims.join(',')}], but output '${this.source}' has [${rows},${tokens}] tokens`,
      );
    }
    const { buffer, byteOffset, byteLength } = mask.data as Int32Array;
    const size = byteLength / Math.max(count, 1);
    if (size === 8) {
      // 64-bit elements by their halves: a BigInt each would be an allocation each.
      const halves = new Int32Array(buffer, byteOffset, 2 * count);
      for (let i = 0; i < count; i++) real[i] = halves[2 * i] === 0 && halves[2 * i + 1] === 0 ? 0 : 1;
    } else {
      const elements = mask.data as Int32Array;
      for (let i = 0; i < count; i++) real[i] = elements[i] === 0 ? 0 : 1;
    }
    return real;
  }
}

function isPerToken({ ortType, dims }: SessionTensor): boolean {
  return (ortType === 'float32' || ortType === 'float16') && dims.length === 3;
}

function copy(sums: Float64Array, values: Float32Array, at: number): void {
  for (let i = 0; i < sums.length; i++) sums[i] = values[at + i]!;
}

function raise(sums: Float64Array, values: Float32Array, at: number): void {
  for (let i = 0; i < sums.length; i++) {
    const value = values[at + i]!;
    if (value > sums[i]!) sums[i] = value;
  }
}

function addTo(sums: Float64Array, values: Float32Array, at: number, weight: number): void {
  for (let i = 0; i < sums.length; i++) sums[i]! += weight * values[at + i]!;
}

function divide(sums: Float64Array, divisor: number): void {
  for (let i = 0; i < sums.length; i++) sums[i]! /= divisor;
}

function norm(parts: readonly Float64Array[]): number {
  let squares = 0;
  for (const sums of parts) for (let i = 0; i < sums.length; i++) squares += sums[i]! * sums[i]!;
  return Math.sqrt(squares);
}

/** FP32 values of `data`: itself, or those of the FP16 whose bits it has. */
function floats(data: Float32Array | Uint16Array): Float32Array {
  if (data instanceof Float32Array) return data;
  // Node 24's Float16Array has numbers, not bits.
  if (!(data instanceof Uint16Array)) return Float32Array.from(data as ArrayLike<number>);
  if (fp16Values.length === 0) fp16Values = Float32Array.from({ length: 65536 }, (_, bits) => fp16(bits));
  const values = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) values[i] = fp16Values[data[i]!]!;
  return values;
}

/** By their bits; made when the first model needs it. */
let fp16Values = new Float32Array(0);

function fp16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
