/**
 * An Engine without models: echoes, holds, fails or throws by the model's name, so that the front end can be tested alone.
 *
 *   echo   outputs = inputs, answered at once
 *   later  the same, in a later turn
 *   hold   answered by `release()`; notes that it was cancelled
 *   big    one output of as many bytes as the first input's INT32 says
 *   fail   onError
 *   throw  breaks the contract
 *   words  generates the words of its text input, a few ahead of what its caller has taken; `taken` and cancels are noted
 *   lazy   the same, but nobody knows that it generates text before it does
 */

import { nowMs } from '../../src/base/clock.js';
import { ServeError } from '../../src/base/errors.js';
import type { GenerateCall, GenerateHandler, GenerateRequest } from '../../src/engine/generation-types.js';
import type {
  ByteBudget,
  Cancel,
  Engine,
  InferHandler,
  InferRequest,
  InferResponse,
  InferStreamHandler,
  ModelContent,
  ModelIndexEntry,
  ModelMetadata,
  ModelStatistics,
} from '../../src/engine/types.js';

/** What is lent out is overwritten with this as soon as the lease ends. */
const POISON = 0xdd;

export class CountingBudget implements ByteBudget {
  used = 0;
  peak = 0;
  constructor(readonly limit: number) {}
  reserve(bytes: number): boolean {
    if (this.used + bytes > this.limit) return false;
    this.used += bytes;
    this.peak = Math.max(this.peak, this.used);
    return true;
  }
  release(bytes: number): void {
    this.used -= bytes;
  }
}

/** Deltas that may be on their way at a time. */
export const WINDOW = 16;

/** A generation of the model `words`: a word a turn while its window has room. */
export class Words implements GenerateCall {
  sent = 0;
  takenCount = 0;
  isCancelled = false;
  isOver = false;
  readonly #words: readonly string[];
  #isRunning = false;

  constructor(
    readonly request: InferRequest,
    readonly handler: InferStreamHandler,
    readonly onEnd: () => void,
  ) {
    const text = Buffer.from(request.inputs[0]!.data.subarray(4)).toString();
    this.#words = text.split(/(?<= )/);
    request.timeline.dispatched = request.timeline.computeStart = nowMs();
  }

  get words(): readonly string[] {
    return this.#words;
  }

  taken(count: number): void {
    this.takenCount += count;
    this.run();
  }

  cancel(): void {
    if (this.isOver) return;
    this.isOver = this.isCancelled = true;
    this.onEnd();
  }

  /** As the engine ends a stream whose caller reads nothing. */
  stall(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.handler.onError(new ServeError('RESOURCE_EXHAUSTED', 'the caller reads too slowly'));
  }

  run(): void {
    if (this.#isRunning || this.isOver) return;
    this.#isRunning = true;
    setImmediate(() => {
      this.#isRunning = false;
      if (this.isOver || this.sent - this.takenCount >= WINDOW) return;
      this.#step();
      this.run();
    });
  }

  #step(): void {
    const { timeline } = this.request;
    const word = this.#words[this.sent]!;
    if (word === 'BROKEN ') {
      this.isOver = true;
      this.handler.onError(new ServeError('UNAVAILABLE', 'the worker was lost'));
      return;
    }
    // A word in brackets is a token without text of its own.
    const text = /^\[.*\] ?$/.test(word) ? '' : word;
    const final = ++this.sent === this.#words.length;
    const now = nowMs();
    if (timeline.firstToken === 0) timeline.firstToken = now;
    if (final) {
      this.isOver = true;
      timeline.computeEnd = timeline.scattered = now;
    }
    const bytes = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    // One in braces is text that was held back: it comes without a token; one in parentheses is of two tokens.
    const logits = word.startsWith('{') ? [] : word.startsWith('(') ? [1, 2] : [this.sent / 2];
    const leases = [new Uint8Array(Buffer.concat([length, bytes])), new Uint8Array(Float32Array.from(logits).buffer)];
    const asked = this.request.outputs.map(({ name }) => name);
    const outputs = [
      { name: 'text_output', datatype: 'BYTES' as const, shape: [1], data: leases[0]! },
      { name: 'token_logit', datatype: 'FP32' as const, shape: [logits.length], data: leases[1]! },
    ].filter(({ name }) => name === 'text_output' || asked.includes(name));
    this.handler.onResponse(responseTo(this.request, outputs), final);
    for (const lease of leases) lease.fill(POISON);
  }
}

interface Held {
  readonly request: InferRequest;
  readonly handler: InferHandler;
}

export class EchoEngine implements Engine {
  readonly serverName = 'echo-engine';
  readonly serverVersion = '9.9.9';
  readonly extensions = ['statistics', 'model_configuration'];
  readonly seen: InferRequest[] = [];
  readonly held: Held[] = [];
  cancelled = 0;
  ready = true;
  #listeners: (() => void)[] = [];
  #onSeen: (() => void)[] = [];
  #onCancelled: (() => void)[] = [];

  /** Generations, in the order in which they were asked for. */
  readonly generations: Words[] = [];

  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
    if (request.modelName === 'words' || request.modelName === 'lazy') {
      this.#see(request);
      const words = new Words(request, handler, () => this.#wasCancelled());
      this.generations.push(words);
      words.run();
      return words;
    }
    const cancel = this.infer(request, {
      onResponse: (response) => handler.onResponse(response, true),
      onError: (error) => handler.onError(error),
    });
    return { cancel, taken: () => undefined };
  }

  generate({ modelName }: GenerateRequest, handler: GenerateHandler): GenerateCall {
    handler.onError(new ServeError('INVALID_ARGUMENT', `model '${modelName}' generates no text`));
    return { cancel: () => undefined, taken: () => undefined };
  }

  infer(request: InferRequest, handler: InferHandler): Cancel {
    this.#see(request);
    const now = request.timeline.decoded;
    request.timeline.queued = request.timeline.dispatched = now;
    switch (request.modelName) {
      case 'echo':
        answer(request, handler);
        break;
      case 'later':
        setImmediate(() => answer(request, handler));
        break;
      case 'hold':
        this.held.push({ request, handler });
        break;
      case 'big': {
        const bytes = Buffer.from(request.inputs[0]!.data).readInt32LE(0);
        const data = new Uint8Array(new SharedArrayBuffer(bytes));
        handler.onResponse(responseTo(request, [{ name: 'OUTPUT0', datatype: 'UINT8', shape: [bytes], data }]));
        break;
      }
      case 'words':
        handler.onError(new ServeError('INVALID_ARGUMENT', 'temperature must be between 0 and 2, got -1'));
        break;
      case 'fail':
        handler.onError(new ServeError('INVALID_ARGUMENT', `unexpected shape for input\u0000 '${'x'.repeat(2000)}'`));
        break;
      case 'throw':
        throw new TypeError('secret detail of a bug');
      default:
        handler.onError(new ServeError('NOT_FOUND', `Request for unknown model: '${request.modelName}' is not found`));
    }
    return () => this.#wasCancelled();
  }

  #see(request: InferRequest): void {
    this.seen.push(request);
    for (const resolve of this.#onSeen.splice(0)) resolve();
  }

  #wasCancelled(): void {
    this.cancelled++;
    for (const resolve of this.#onCancelled.splice(0)) resolve();
  }

  /** Answers what is held. */
  release(): void {
    for (const { request, handler } of this.held.splice(0)) answer(request, handler);
  }

  /** When the next request arrives. */
  nextSeen(): Promise<void> {
    return new Promise((resolve) => this.#onSeen.push(resolve));
  }

  nextCancelled(): Promise<void> {
    return new Promise((resolve) => this.#onCancelled.push(resolve));
  }

  setReady(ready: boolean): void {
    this.ready = ready;
    for (const listener of this.#listeners) listener();
  }

  isReady(): boolean {
    return this.ready;
  }

  isModelReady(name: string, version: string): boolean {
    if (version === 'a')
      throw new ServeError('INVALID_ARGUMENT', `failed to get model version from specified version string 'a'`);
    return name === 'echo';
  }

  modelMetadata(name: string): ModelMetadata {
    if (name !== 'echo') throw new ServeError('NOT_FOUND', `Request for unknown model: '${name}' is not found`);
    return {
      name,
      versions: ['1', '3'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [-1, 4] }],
      outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape: [-1, 4] }],
    };
  }

  modelConfig(name: string): Record<string, unknown> {
    return {
      name,
      platform: 'onnxruntime_onnx',
      max_batch_size: 8,
      input: [{ name: 'INPUT0', data_type: 'TYPE_FP32', dims: [4] }],
      dynamic_batching: { preferred_batch_size: [4, 8], max_queue_delay_microseconds: 100 },
      version_policy: { latest: { num_versions: 1 } },
    };
  }

  modelStatistics(name: string): ModelStatistics[] {
    const d = (count: number, ns: number) => ({ count, ns });
    return [
      {
        name: name || 'echo',
        version: '3',
        last_inference: 1_700_000_000_123,
        inference_count: 12,
        execution_count: 3,
        inference_stats: {
          success: d(12, 9_007_199_254_740_000),
          fail: d(1, 5),
          queue: d(12, 2),
          compute_input: d(12, 3),
          compute_infer: d(12, 4),
          compute_output: d(12, 5),
          cache_hit: d(0, 0),
          cache_miss: d(0, 0),
        },
        batch_stats: [{ batch_size: 4, compute_input: d(3, 3), compute_infer: d(3, 4), compute_output: d(3, 5) }],
        memory_usage: [],
      },
    ];
  }

  repositoryIndex(readyOnly: boolean): ModelIndexEntry[] {
    const all: ModelIndexEntry[] = [
      { name: 'echo', version: '3', state: 'READY', reason: '' },
      { name: 'broken', version: '', state: '', reason: 'failed to load' },
    ];
    return readyOnly ? all.filter((entry) => entry.state === 'READY') : all;
  }

  async whenReady(name: string): Promise<void> {
    this.#content(name);
  }

  modelContent(name: string): ModelContent {
    if (name === 'lazy') throw new ServeError('UNAVAILABLE', `Request for unknown model: 'lazy' is not at ready state`);
    return this.#content(name);
  }

  #content(name: string): ModelContent {
    if (!/^(echo|later|hold|words|lazy)$/.test(name)) this.modelMetadata(name);
    const generation = name === 'words' ? { contextLength: 1000, vocabularySize: 99, chatProblem: '' } : undefined;
    return { inputs: [], embeddingOutput: undefined, embeddingProblem: '', isMatryoshka: false, generation };
  }

  onReadinessChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}

function responseTo(request: InferRequest, outputs: InferResponse['outputs']): InferResponse {
  return { modelName: request.modelName, modelVersion: '3', id: request.id, outputs };
}

/** Outputs lie in shared memory that is poisoned when the handler returns. */
function answer(request: InferRequest, handler: InferHandler): void {
  const leases: Uint8Array[] = [];
  const outputs = request.inputs.map((input, i) => {
    const data = new Uint8Array(new SharedArrayBuffer(input.data.length));
    data.set(input.data);
    leases.push(data);
    return { name: `OUTPUT${i}`, datatype: input.datatype as 'FP32', shape: input.shape, data };
  });
  request.timeline.scattered = nowMs();
  handler.onResponse(responseTo(request, outputs));
  for (const lease of leases) lease.fill(POISON);
}
