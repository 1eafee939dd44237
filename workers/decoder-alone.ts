/**
 * A decoder whose sequences run one at a time: all of a run's state is an output and the next run's input, whatever it is.
 *
 * Called by workers/decoder.ts for models whose state no layout fits. Owns the session. Tensors of state are never written to, so that a
 * saved row is the same tensors and costs no copy.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { DecoderPorts } from './decoder-ports.js';
import { elementsOf, fill, integers, stateTensor, zeros } from './decoder-tensors.js';
import type { Decoder, SavedRow } from './decoder-types.js';

export interface AloneOptions {
  readonly session: InferenceSession;
  readonly ports: DecoderPorts;
  /** Name of the output with the logits of the last token. */
  readonly logits: string;
  readonly maxSequences: number;
  readonly maxTokens: number;
  readonly kvCacheBytes: number;
}

interface State {
  readonly length: number;
  readonly tensors: readonly Tensor[];
  readonly byteLength: number;
}

class AloneRow {
  state: State;

  constructor(state: State) {
    this.state = state;
  }

  get length(): number {
    return this.state.length;
  }
}

export class AloneDecoder implements Decoder {
  readonly layout = 'alone';
  readonly canCut = false;
  readonly kvBytesPerToken: number;
  notes: readonly string[] = [];
  vocabularySize = 0;
  /** A longer prefill is made in several runs. */
  tokensPerRun = Number.POSITIVE_INFINITY;
  readonly #options: AloneOptions;
  readonly #rows = new Set<AloneRow>();
  readonly #first: State;
  /** Bytes of state that is there from the beginning and does not grow. */
  readonly #fixedBytes: number;
  #logits = new Float32Array(0);

  constructor(options: AloneOptions) {
    this.#options = options;
    const { states } = options.ports;
    const tensors = states.map(({ type, firstDims }) => zeros(type, firstDims));
    this.#fixedBytes = bytesOf(tensors);
    this.#first = { length: 0, tensors, byteLength: this.#fixedBytes };
    // What has one dimension without a size grows along it.
    this.kvBytesPerToken = bytesOf(
      states
        .filter(({ firstDims }) => firstDims.includes(0))
        .map(({ type, firstDims }) =>
          zeros(
            type,
            firstDims.map((dim) => dim || 1),
          ),
        ),
    );
  }

  get usedBytes(): number {
    let bytes = 0;
    for (const { state } of this.#rows) bytes += state.byteLength;
    return bytes;
  }

  get heldBytes(): number {
    return this.usedBytes;
  }

  fits(lengths: readonly number[], besideBytes: number): boolean {
    if (lengths.length > this.#options.maxSequences) return false;
    let tokens = 0;
    for (const length of lengths) tokens += length;
    const bytes = tokens * this.kvBytesPerToken + lengths.length * this.#fixedBytes;
    return bytes + besideBytes <= this.#options.kvCacheBytes;
  }

  /** Rows hold nothing that they don't use. */
  keepBeside(): void {}

  /** Nothing is held before it is used. */
  reserve(): void {}

  add(): AloneRow {
    return this.#insert(this.#first);
  }

  restore(saved: SavedRow, length: number): AloneRow {
    const state = saved as State;
    if (length !== state.length)
      throw new Error(`a row of ${state.length} tokens without a past can't be cut to ${length}`);
    return this.#insert(state);
  }

  save(row: AloneRow, length: number): SavedRow {
    if (length !== row.length)
      throw new Error(`a row of ${row.length} tokens without a past can't be cut to ${length}`);
    return row.state;
  }

  remove(row: AloneRow): void {
    this.#rows.delete(row);
  }

  async prefill(row: AloneRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined> {
    const { maxTokens } = this.#options;
    const total = row.length + tokens.length;
    if (total > maxTokens) {
      throw new ServeError(
        'INVALID_ARGUMENT',
        `sequence of ${total} tokens exceeds the model's context of ${maxTokens}`,
      );
    }
    const { state } = row;
    try {
      let from = 0;
      for (; from + this.tokensPerRun < tokens.length; from += this.tokensPerRun) {
        await this.#run(row, tokens.subarray(from, from + this.tokensPerRun), false);
      }
      return await this.#run(row, tokens.subarray(from), wantsLogits);
    } catch (error) {
      row.state = state;
      throw error;
    }
  }

  async #run(row: AloneRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined> {
    const { session, ports, logits } = this.#options;
    const names = ports.states.map(({ present }) => present);
    const results = (await session.run(
      this.#feeds(row.state, tokens),
      wantsLogits ? [logits, ...names] : names,
    )) as Record<string, Tensor>;
    const states = ports.states.map(({ present, type }) => {
      const result = results[present]!;
      return type === 'float16' ? stateTensor(type, elementsOf(result), result.dims) : result;
    });
    row.state = { length: row.length + tokens.length, tensors: states, byteLength: bytesOf(states) };
    return wantsLogits ? (results[logits]!.data as Float32Array) : undefined;
  }

  async decode(rows: readonly AloneRow[], tokens: Int32Array): Promise<Float32Array> {
    const before = rows.map(({ state }) => state);
    const size = this.vocabularySize;
    if (this.#logits.length !== rows.length * size) this.#logits = new Float32Array(rows.length * size);
    try {
      for (const [i, row] of rows.entries()) {
        this.#logits.set((await this.prefill(row, tokens.subarray(i, i + 1), true))!, i * size);
      }
    } catch (error) {
      for (const [i, row] of rows.entries()) row.state = before[i]!;
      throw error;
    }
    return this.#logits;
  }

  async release(): Promise<void> {
    await this.#options.session.release();
  }

  #insert(state: State): AloneRow {
    const row = new AloneRow(state);
    this.#rows.add(row);
    return row;
  }

  #feeds({ length, tensors }: State, tokens: Int32Array): Record<string, Tensor> {
    const { inputIds, attentionMask, positionIds, useCacheBranch, numLogitsToKeep, states } = this.#options.ports;
    const feeds: Record<string, Tensor> = {};
    const count = tokens.length;
    const ids = integers(inputIds.type, [1, count]);
    for (let i = 0; i < count; i++) ids.words[i * ids.stride] = tokens[i]!;
    feeds[inputIds.name] = ids.tensor;
    if (attentionMask) {
      const mask = integers(attentionMask.type, [1, length + count]);
      fill(mask, 1);
      feeds[attentionMask.name] = mask.tensor;
    }
    if (positionIds) {
      const positions = integers(positionIds.type, [1, count]);
      for (let i = 0; i < count; i++) positions.words[i * positions.stride] = length + i;
      feeds[positionIds.name] = positions.tensor;
    }
    if (useCacheBranch) feeds[useCacheBranch] = new ort.Tensor('bool', Uint8Array.of(length > 0 ? 1 : 0), [1]);
    if (numLogitsToKeep) {
      const keep = integers(numLogitsToKeep.type, []);
      fill(keep, 1);
      feeds[numLogitsToKeep.name] = keep.tensor;
    }
    for (const [i, { past }] of states.entries()) feeds[past] = tensors[i]!;
    return feeds;
  }
}

function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { data }) => sum + (data as Float32Array).byteLength, 0);
}
