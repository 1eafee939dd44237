/**
 * Decoders on disk for tests: writes a model, loads it, and drives it as the step loop does, greedily.
 *
 * Called by tests of text generation. Folders go with the process's temporary directory; callers remove what they got.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { DECODER_NAMES, type GenerationSpec } from '../../src/runtime/generation-messages.js';
import { loadDecoder } from '../../workers/decoder.js';
import type { Decoder, DecoderRow } from '../../workers/decoder-types.js';
import { type DecoderOptions, decoderModel } from './onnx-decoder.js';
import { argmax, rawGreedy } from './raw-decoder.js';

export const CPU_OPTIONS: GenerationSpec['options'] = {
  executionProviders: ['cpu'],
  deviceId: 0,
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionMode: 'sequential',
  graphOptimizationLevel: 'all',
  enableCpuMemArena: true,
  enableMemPattern: true,
  configEntries: {},
};

export function specOf(directory: string, changes: Partial<GenerationSpec> = {}): GenerationSpec {
  return {
    path: join(directory, 'model.onnx'),
    directory,
    options: CPU_OPTIONS,
    tokenizerJson: new Uint8Array(new SharedArrayBuffer(0)),
    tokenizerConfigJson: '',
    modelType: '',
    names: DECODER_NAMES,
    contextLength: 256,
    slidingWindow: Number.POSITIVE_INFINITY,
    maxSequences: 8,
    kvCacheBytes: 2 ** 30,
    prefixCacheBytes: 0,
    prefillChunk: 64,
    ...changes,
  };
}

/** A model on disk, and its decoder. */
export interface DecoderFixture {
  readonly directory: string;
  readonly decoder: Decoder;
  /** The tokens of the plain loop behind `prompt`. */
  raw(prompt: readonly number[], tokens?: number): Promise<number[]>;
  close(): Promise<void>;
}

export function writeDecoder(options: DecoderOptions): string {
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-decoder-'));
  const { model, external } = decoderModel(options);
  writeFileSync(join(directory, 'model.onnx'), model);
  if (options.externalFile !== undefined) writeFileSync(join(directory, options.externalFile), external);
  return directory;
}

export async function decoderFixture(
  options: DecoderOptions,
  changes: Partial<GenerationSpec> = {},
): Promise<DecoderFixture> {
  const directory = writeDecoder(options);
  const decoder = await loadDecoder(specOf(directory, changes));
  const session = await ort.InferenceSession.create(join(directory, 'model.onnx'), {
    intraOpNumThreads: 1,
    logSeverityLevel: 4,
  });
  const known = new Map<string, Promise<number[]>>();
  return {
    directory,
    decoder,
    raw(prompt, tokens = 64) {
      const key = `${tokens}:${prompt}`;
      const idsType = options.idsType === 'INT32' ? 'int32' : 'int64';
      if (!known.has(key)) known.set(key, rawGreedy(session, prompt, { tokens, idsType }));
      return known.get(key)!;
    },
    async close() {
      await decoder.release();
      await session.release();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A sequence that a test drives. */
export interface Driven {
  readonly row: DecoderRow;
  readonly chosen: number[];
}

/** A new sequence with its prompt done, in runs of `chunk` tokens. */
export async function begin(decoder: Decoder, prompt: readonly number[], chunk = prompt.length): Promise<Driven> {
  const driven = { row: decoder.add(), chosen: [] };
  await prefill(decoder, driven, prompt, chunk);
  return driven;
}

export async function prefill(
  decoder: Decoder,
  { row, chosen }: Driven,
  tokens: readonly number[],
  chunk = tokens.length,
): Promise<void> {
  for (let at = 0; at < tokens.length; at += chunk) {
    const part = Int32Array.from(tokens.slice(at, at + chunk));
    const last = at + chunk >= tokens.length;
    const logits = await decoder.prefill(row, part, last);
    if (last) chosen.push(argmax(logits!));
  }
}

/** One step of each. */
export async function step(decoder: Decoder, all: readonly Driven[]): Promise<void> {
  const tokens = Int32Array.from(all, ({ chosen }) => chosen.at(-1)!);
  const logits = await decoder.decode(
    all.map(({ row }) => row),
    tokens,
  );
  const size = logits.length / all.length;
  for (const [i, { chosen }] of all.entries()) chosen.push(argmax(logits.subarray(i * size, (i + 1) * size)));
}

/** Steps until each has `tokens` chosen. */
export async function finish(decoder: Decoder, all: readonly Driven[], tokens: number): Promise<void> {
  for (;;) {
    const left = all.filter(({ chosen }) => chosen.length < tokens);
    if (left.length === 0) return;
    await step(decoder, left);
  }
}

/** Prompts of `count` different lengths, 1 and up; the same every time. */
export function prompts(count: number, vocabulary = 96): number[][] {
  const lengths = [1, 9, 3, 40, 17, 2, 31, 64, 5, 23];
  let state = 1;
  const draw = (): number => (state = (state * 48_271) % 2_147_483_647) % vocabulary;
  return Array.from({ length: count }, (_, i) => Array.from({ length: lengths[i % lengths.length]! }, draw));
}
