/**
 * An Engine without models: echoes, holds, fails or throws by the model's name, so that the front end can be tested alone.
 *
 *   echo   outputs = inputs, answered at once
 *   later  the same, in a later turn
 *   hold   answered by `release()`; notes that it was cancelled
 *   big    one output of as many bytes as the first input's INT32 says
 *   fail   onError
 *   throw  breaks the contract
 */
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

  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
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
    this.seen.push(request);
    for (const resolve of this.#onSeen.splice(0)) resolve();
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
      case 'fail':
        handler.onError(new ServeError('INVALID_ARGUMENT', `unexpected shape for input\u0000 '${'x'.repeat(2000)}'`));
        break;
      case 'throw':
        throw new TypeError('secret detail of a bug');
      default:
        handler.onError(new ServeError('NOT_FOUND', `Request for unknown model: '${request.modelName}' is not found`));
    }
    return () => {
      this.cancelled++;
      for (const resolve of this.#onCancelled.splice(0)) resolve();
    };
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
    this.modelMetadata(name);
  }

  modelContent(name: string): ModelContent {
    this.modelMetadata(name);
    return { inputs: [], embeddingOutput: undefined, embeddingProblem: '', isMatryoshka: false, generation: undefined };
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
  handler.onResponse(responseTo(request, outputs));
  for (const lease of leases) lease.fill(POISON);
}
