/**
 * A decoder in place of a model: its "keys and values" are the tokens themselves, and its next token depends on all of them.
 *
 * Called by tests of the step loop, which need runs that are exact, countable and can be made to fail. What it answers is `expectedTokens`.
 */
import { setImmediate } from 'node:timers/promises';
import type { KvLayout } from '../../src/runtime/generation-messages.js';
import type { Decoder, DecoderRow, SavedRow } from '../../workers/decoder-types.js';
import { capacityFor, rowsFor } from '../../workers/kv-layout.js';

export const VOCABULARY = 61;

/** One run, for tests that look at the order of things. */
export interface DecoderRun {
  readonly kind: 'prefill' | 'decode';
  /** Rows of a decode step, tokens of a prefill. */
  readonly size: number;
}

class MemoryRow implements DecoderRow, SavedRow {
  tokens: number[];
  /** Removed: any use is a bug of the caller. */
  gone = false;

  constructor(tokens: readonly number[]) {
    this.tokens = [...tokens];
  }

  get length(): number {
    return this.tokens.length;
  }

  get byteLength(): number {
    return this.tokens.length * 4;
  }
}

export interface MemoryDecoderOptions {
  readonly layout?: KvLayout;
  readonly canCut?: boolean;
  /** Tokens that all rows and saved rows together may have. */
  readonly capacity?: number;
  /** What runs take, by a clock that only they move. */
  readonly msOfRun?: (run: DecoderRun) => number;
  /** The same of making room, where rows have so many tokens. */
  readonly msOfRoom?: (tokens: number) => number;
}

export class MemoryDecoder implements Decoder {
  readonly vocabularySize = VOCABULARY;
  readonly kvBytesPerToken = 4;
  readonly notes = [];
  readonly layout: KvLayout;
  readonly canCut: boolean;
  readonly runs: DecoderRun[] = [];
  readonly rows = new Set<MemoryRow>();
  /** Called before each run with the rows' tokens; may throw, as ONNX Runtime does. */
  onRun: (rows: readonly (readonly number[])[], kind: DecoderRun['kind']) => void = () => undefined;
  saves = 0;
  besideBytes = 0;
  released = false;
  /** The time by that clock. */
  nowMs = 1;
  readonly #msOfRun: (run: DecoderRun) => number;
  readonly #msOfRoom: (tokens: number) => number;
  #room = 0;
  #tokens = 0;
  readonly #capacity: number;
  #logits = new Float32Array();

  constructor({
    layout = 'right',
    canCut = true,
    capacity = Number.POSITIVE_INFINITY,
    msOfRun = () => 1,
    msOfRoom = () => 0,
  }: MemoryDecoderOptions = {}) {
    this.layout = layout;
    this.canCut = canCut;
    this.#capacity = capacity;
    this.#msOfRun = msOfRun;
    this.#msOfRoom = msOfRoom;
  }

  get usedBytes(): number {
    let bytes = 0;
    for (const row of this.rows) bytes += row.byteLength;
    return bytes;
  }

  get heldBytes(): number {
    return this.usedBytes;
  }

  fits(lengths: readonly number[], besideBytes: number): boolean {
    return lengths.reduce((sum, each) => sum + each, besideBytes / this.kvBytesPerToken) <= this.#capacity;
  }

  reserve(rows: number, tokens: number): void {
    const [room, capacity] = [rowsFor(rows, 64), capacityFor(tokens, 1e6)];
    if (room <= this.#room && capacity <= this.#tokens) return;
    this.#room = Math.max(room, this.#room);
    this.#tokens = Math.max(capacity, this.#tokens);
    this.nowMs += this.#msOfRoom(this.usedBytes / this.kvBytesPerToken);
  }

  keepBeside(besideBytes: number): void {
    this.besideBytes = besideBytes;
  }

  add(): DecoderRow {
    return this.#put([]);
  }

  restore(saved: SavedRow, length: number): DecoderRow {
    if (!this.canCut && length !== saved.length) throw new Error('a row that can not be cut was cut');
    return this.#put((saved as MemoryRow).tokens.slice(0, length));
  }

  save(row: DecoderRow, length: number): SavedRow {
    this.saves++;
    return new MemoryRow(this.#own(row).tokens.slice(0, length));
  }

  remove(row: DecoderRow): void {
    const own = this.#own(row);
    own.gone = true;
    this.rows.delete(own);
  }

  async prefill(row: DecoderRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined> {
    const own = this.#own(row);
    await setImmediate();
    this.onRun([own.tokens], 'prefill');
    this.#ran({ kind: 'prefill', size: tokens.length });
    own.tokens.push(...tokens);
    return wantsLogits ? this.#answer([own]) : undefined;
  }

  async decode(rows: readonly DecoderRow[], tokens: Int32Array): Promise<Float32Array> {
    const own = rows.map((row) => this.#own(row));
    await setImmediate();
    for (const row of own) this.#own(row);
    this.onRun(
      own.map((row) => row.tokens),
      'decode',
    );
    this.#ran({ kind: 'decode', size: rows.length });
    for (const [index, row] of own.entries()) row.tokens.push(tokens[index]!);
    return this.#answer(own);
  }

  async release(): Promise<void> {
    this.released = true;
  }

  #ran(run: DecoderRun): void {
    this.runs.push(run);
    this.nowMs += this.#msOfRun(run);
  }

  #put(tokens: readonly number[]): DecoderRow {
    const row = new MemoryRow(tokens);
    this.rows.add(row);
    return row;
  }

  #own(row: DecoderRow): MemoryRow {
    if (!(row instanceof MemoryRow) || row.gone) throw new Error('a row was used that the decoder does not have');
    return row;
  }

  /** One for all calls, overwritten: what is kept by a caller too long shows. */
  #answer(rows: readonly MemoryRow[]): Float32Array {
    if (this.#logits.length !== rows.length * VOCABULARY) this.#logits = new Float32Array(rows.length * VOCABULARY);
    for (const [index, { tokens }] of rows.entries()) {
      const row = this.#logits.subarray(index * VOCABULARY, (index + 1) * VOCABULARY);
      row.fill(0);
      row[nextToken(tokens)] = 5;
    }
    return this.#logits;
  }
}

/** Token ids are 1 to 59, so that 60 can end a text and 0 nothing. */
export function nextToken(tokens: readonly number[]): number {
  let hash = 7;
  for (const token of tokens) hash = (Math.imul(hash, 31) + token) >>> 0;
  return 1 + ((((hash ^ (hash >>> 13)) % 59) + 59) % 59);
}

/** What follows `prompt`, greedily. */
export function expectedTokens(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  while (tokens.length < prompt.length + count) tokens.push(nextToken(tokens));
  return tokens.slice(prompt.length);
}
