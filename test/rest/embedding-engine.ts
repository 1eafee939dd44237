/**
 * An engine whose models turn texts and tokens into vectors by arithmetic, and texts that are names of errors into those.
 *
 *   embed       4 dimensions, not to be cut
 *   matryoshka  8 dimensions, to be cut
 *   free        as matryoshka, but nobody knows its width before
 *   vague       no embedding output, and a reason why
 *   numbers     takes no text
 *   nan         a vector that is no number
 *
 * Answers at once, in a later turn, or when it is told. Vectors are lent in shared memory, which is poisoned afterwards.
 */
import { ServeError } from '../../src/base/errors.js';
import type {
  Cancel,
  InferHandler,
  InferRequest,
  ModelContent,
  ModelIndexEntry,
  ModelMetadata,
} from '../../src/engine/types.js';
import { EchoEngine } from '../grpc/echo-engine.js';

const WIDTHS: Readonly<Record<string, number>> = { embed: 4, matryoshka: 8, free: 8, vague: 4, numbers: 4, nan: 4 };

const ERRORS = {
  'not-fit': new ServeError('INVALID_ARGUMENT', 'text has 9 tokens, at most 8 are taken'),
  busy: new ServeError('RESOURCE_EXHAUSTED', 'queue of model embed is full (64)'),
  down: new ServeError('UNAVAILABLE', 'model is being replaced'),
  late: new ServeError('DEADLINE_EXCEEDED', 'request waited too long'),
  bug: new ServeError('INTERNAL', 'internal error'),
} as const;

/** The vector of a text or of tokens; of unit length. */
export function vectorOf(input: string | readonly number[], width: number): Float32Array {
  const seed = typeof input === 'string' ? [...Buffer.from(input)] : input;
  const vector = Float32Array.from({ length: width }, (_, i) =>
    seed.reduce((sum, part, at) => sum + Math.sin(part * (i + 1) + at), i),
  );
  return unit(vector);
}

export function unit(vector: Float32Array): Float32Array {
  const norm = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return vector.map((value) => value / norm);
}

interface Open {
  readonly request: InferRequest;
  readonly handler: InferHandler;
  readonly input: string | number[];
}

export class EmbeddingEngine extends EchoEngine {
  /** 'hold': answered by {@link answerHeld} only. */
  mode: 'at once' | 'later' | 'hold' = 'later';
  /** What the engine has and has not answered, by arrival. */
  readonly open = new Set<Open>();
  peakOpen = 0;
  /** Set: models are ready when it resolves. */
  loading: Promise<void> | undefined;

  override infer(request: InferRequest, handler: InferHandler): Cancel {
    if (!(request.modelName in WIDTHS)) return super.infer(request, handler);
    this.seen.push(request);
    const [input] = request.inputs;
    const bytes = Buffer.from(input!.data);
    const text = input!.content === 'text';
    const tokens = text ? [] : Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
    const open: Open = { request, handler, input: text ? bytes.toString('utf8', 4) : tokens };
    this.open.add(open);
    this.peakOpen = Math.max(this.peakOpen, this.open.size);
    const { timeline } = request;
    timeline.admitted = timeline.queued = timeline.decoded + this.seen.length / 1000;
    if (this.mode === 'at once') this.#answer(open);
    else if (this.mode === 'later') setImmediate(() => this.#answer(open));
    return () => {
      if (!this.open.delete(open)) return;
      this.cancelled++;
      this.onCancelled?.();
    };
  }

  /** Called for each cancel of what was open. */
  onCancelled: (() => void) | undefined;

  /** Answers what is held, the last first. */
  answerHeld(): void {
    for (const open of [...this.open].reverse()) this.#answer(open);
  }

  #answer(open: Open): void {
    if (!this.open.delete(open)) return;
    const { request, handler, input } = open;
    const { timeline, modelName } = request;
    timeline.dispatched = timeline.computeStart = timeline.computeEnd = timeline.scattered = timeline.decoded + 10;
    timeline.batchSize = 1;
    const error = typeof input === 'string' ? ERRORS[input as keyof typeof ERRORS] : undefined;
    if (error) {
      handler.onError(error);
      return;
    }
    const width = WIDTHS[modelName]!;
    const vector = modelName === 'nan' ? new Float32Array(width).fill(Number.NaN) : vectorOf(input, width);
    // Off by one, so that nobody may rely on an alignment.
    const data = new Uint8Array(new SharedArrayBuffer(4 * width + 1), 1);
    data.set(new Uint8Array(vector.buffer));
    const outputs = [{ name: request.outputs[0]!.name, datatype: 'FP32' as const, shape: [1, width], data }];
    const inputTokens = typeof input === 'string' ? { inputTokens: input.length } : {};
    handler.onResponse({ modelName, modelVersion: '1', id: '', outputs, ...inputTokens });
    data.fill(0xdd);
  }

  override async whenReady(name: string): Promise<void> {
    await this.loading;
    this.modelMetadata(name);
  }

  override modelMetadata(name: string): ModelMetadata {
    const width = WIDTHS[name];
    if (width === undefined) return super.modelMetadata(name);
    return {
      name,
      versions: ['1'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'input_ids', datatype: 'INT64', shape: [-1, -1] }],
      outputs: [{ name: 'sentence_embedding', datatype: 'FP32', shape: [-1, name === 'free' ? -1 : width] }],
    };
  }

  override modelContent(name: string): ModelContent {
    if (!(name in WIDTHS)) return super.modelContent(name);
    const embeds = name !== 'vague' && name !== 'numbers';
    return {
      inputs: name === 'numbers' ? [] : [{ name: 'text', kind: 'text' }],
      embeddingOutput: embeds ? 'sentence_embedding' : undefined,
      embeddingProblem: name === 'vague' ? "its pooling mode 'max' is not known" : '',
      isMatryoshka: name === 'matryoshka' || name === 'free',
      generation: undefined,
    };
  }

  override repositoryIndex(readyOnly: boolean): ModelIndexEntry[] {
    const versions = ['2', '1'].map((version) => ({ name: 'embed', version, state: 'READY' as const, reason: '' }));
    return [...super.repositoryIndex(readyOnly), ...versions];
  }
}
