/**
 * The vectors of one embeddings request: each of its inputs is a request of its own to the engine, so that the model's batches join
 * texts of similar length, of this client and of others.
 *
 * Called by `openai-embeddings.ts`. Owns the memory of the vectors, what is in flight, and the merged timeline. One failure ends it
 * all. Only so many inputs are in flight at a time, so that one request can't fill its model's queue.
 */
import { copyBytes } from '../base/copy-bytes.js';
import type { EmbeddingsRequest } from '../base/embeddings-json.js';
import { ServeError } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import type { Cancel, Engine, InferInput, InferResponse, Parameters } from '../engine/types.js';
import { invalidMember } from './openai-error.js';

export interface EmbeddingsRunOptions {
  readonly engine: Engine;
  readonly request: EmbeddingsRequest;
  /** The model's output with one vector per text. */
  readonly output: string;
  /** Vectors may be cut to fewer dimensions. */
  readonly isMatryoshka: boolean;
  /** Of the HTTP request, stamped up to `decoded`. */
  readonly timeline: Timeline;
  /** Called once, before memory for `bytes` of vectors is taken; may throw. */
  readonly reserve: (bytes: number) => void;
}

export interface Embeddings {
  readonly vectors: Float32Array<ArrayBuffer>;
  /** Tokens of all inputs together. */
  readonly promptTokens: number;
}

/** Exactly one is called, once, unless the run was cancelled first. `timeline` is the merged one. */
export interface EmbeddingsRunHandler {
  onEmbeddings(embeddings: Embeddings, timeline: Timeline): void;
  onError(error: unknown, timeline: Timeline): void;
}

/** Inputs of one request that the engine holds at a time: two batches of the usual size, far less than a queue. */
export const INFLIGHT_INPUTS = 64;

/** Starts the run; what it returns cancels what is in flight. */
export function runEmbeddings(options: EmbeddingsRunOptions, handler: EmbeddingsRunHandler): Cancel {
  const run = new EmbeddingsRun(options, handler);
  run.pump();
  return () => run.stop();
}

/** Throws 400 when vectors of `width` can't be given with as many dimensions as asked for. */
export function checkDimensions({ model, dimensions }: EmbeddingsRequest, width: number, isMatryoshka: boolean): void {
  if (dimensions === undefined || dimensions === width || (isMatryoshka && dimensions < width)) return;
  const instead = isMatryoshka ? `they can be cut to 1 to ${width}` : 'they can not be cut';
  throw invalidMember(
    'dimensions',
    `embeddings of model '${model}' have ${width} dimensions and ${instead}, got ${dimensions}`,
  );
}

class EmbeddingsRun {
  readonly #options: EmbeddingsRunOptions;
  readonly #handler: EmbeddingsRunHandler;
  readonly #parameters: Parameters;
  readonly #count: number;
  /** Cancels of what is in flight, by input. */
  readonly #inFlight = new Map<number, Cancel>();
  #next = 0;
  #answered = 0;
  #ended = false;
  #pumping = false;
  /** Dimensions of the model's vectors, and of those to give; 0 until the first has come. */
  #width = 0;
  #dimensions = 0;
  #vectors = new Float32Array(0);
  #bytes = Buffer.from(this.#vectors.buffer);
  #promptTokens = 0;
  #firstAdmitted = Infinity;
  #firstQueued = Infinity;

  constructor(options: EmbeddingsRunOptions, handler: EmbeddingsRunHandler) {
    this.#options = options;
    this.#handler = handler;
    const { truncate, ends } = options.request;
    this.#parameters = new Map(truncate === undefined ? [] : [['truncate', truncate]]);
    this.#count = ends.length;
  }

  /** Gives the engine what it may hold. */
  pump(): void {
    // The engine may answer before infer() returns, and that answer pumps again.
    if (this.#pumping) return;
    this.#pumping = true;
    while (!this.#ended && this.#next < this.#count && this.#inFlight.size < INFLIGHT_INPUTS) this.#send(this.#next++);
    this.#pumping = false;
  }

  /** Cancels all that is in flight; nothing is told any more. */
  stop(): void {
    this.#ended = true;
    for (const cancel of this.#inFlight.values()) cancel();
    this.#inFlight.clear();
  }

  #send(index: number): void {
    const { engine, request, output } = this.#options;
    const { firstByte, lastByte, decoded } = this.#options.timeline;
    const timeline = new Timeline(firstByte);
    timeline.lastByte = lastByte;
    timeline.decoded = decoded;
    this.#inFlight.set(index, () => undefined);
    const cancel = engine.infer(
      {
        modelName: request.model,
        modelVersion: '',
        id: '',
        inputs: [inputOf(request, index)],
        outputs: [{ name: output }],
        parameters: this.#parameters,
        arm: 'rest_json',
        deadlineMs: Infinity,
        timeline,
      },
      {
        onResponse: (response) => {
          try {
            if (this.#leave(index, timeline)) this.#take(index, response, timeline);
          } catch (error) {
            this.#fail(error, timeline);
          }
        },
        onError: (error) => {
          if (this.#leave(index, timeline)) this.#fail(this.#blame(index, error), timeline);
        },
      },
    );
    if (this.#inFlight.has(index)) this.#inFlight.set(index, cancel);
  }

  /** An input is answered; false when nobody waits for it any more. */
  #leave(index: number, { admitted, queued }: Timeline): boolean {
    this.#inFlight.delete(index);
    if (admitted > 0) this.#firstAdmitted = Math.min(this.#firstAdmitted, admitted);
    if (queued > 0) this.#firstQueued = Math.min(this.#firstQueued, queued);
    return !this.#ended;
  }

  /** Copies the vector, which is lent. */
  #take(index: number, response: InferResponse, timeline: Timeline): void {
    const { request } = this.#options;
    const output = response.outputs[0]!;
    const width = output.data.byteLength / 4;
    if (output.datatype !== 'FP32' || (this.#width > 0 && width !== this.#width)) {
      throw new ServeError(
        'INTERNAL',
        `model '${request.model}' gave ${output.datatype} [${output.shape.join(',')}] for '${output.name}', expected one vector of FP32 as long as all others`,
      );
    }
    if (this.#width === 0) this.#allocate(width);
    const dimensions = this.#dimensions;
    copyBytes(this.#bytes, output.data.subarray(0, 4 * dimensions), 4 * index * dimensions);
    if (dimensions < width) normalize(this.#vectors.subarray(index * dimensions, (index + 1) * dimensions));
    this.#promptTokens += request.kind === 'tokens' ? lengthOf(request, index) / 8 : (response.inputTokens ?? 0);
    if (++this.#answered < this.#count) {
      this.pump();
      return;
    }
    this.#ended = true;
    const embeddings = { vectors: this.#vectors, promptTokens: this.#promptTokens };
    this.#handler.onEmbeddings(embeddings, this.#merged(timeline));
  }

  #allocate(width: number): void {
    const { request, isMatryoshka, reserve } = this.#options;
    checkDimensions(request, width, isMatryoshka);
    this.#width = width;
    this.#dimensions = request.dimensions ?? width;
    const length = this.#count * this.#dimensions;
    reserve(4 * length);
    this.#vectors = new Float32Array(length);
    this.#bytes = Buffer.from(this.#vectors.buffer);
  }

  #fail(error: unknown, timeline: Timeline): void {
    this.stop();
    this.#handler.onError(error, this.#merged(timeline));
  }

  /** Which input a refusal is about. */
  #blame(index: number, error: ServeError): unknown {
    if (error.code !== 'INVALID_ARGUMENT') return error;
    return invalidMember('input', this.#count > 1 ? `input[${index}]: ${error.message}` : error.message);
  }

  /**
   * The timeline of the input that was answered last, but in the queue from when the first was (what waited here for the others had
   * nothing else to wait for), and with the bytes of all.
   */
  #merged(last: Timeline): Timeline {
    if (this.#firstAdmitted < Infinity) last.admitted = this.#firstAdmitted;
    if (this.#firstQueued < Infinity) last.queued = this.#firstQueued;
    last.inputBytes = this.#options.request.data.length;
    last.outputBytes = this.#vectors.byteLength;
    return last;
  }
}

function startOf({ ends }: EmbeddingsRequest, index: number): number {
  return index === 0 ? 0 : ends[index - 1]!;
}

function lengthOf(request: EmbeddingsRequest, index: number): number {
  return request.ends[index]! - startOf(request, index);
}

function inputOf(request: EmbeddingsRequest, index: number): InferInput {
  const data = request.data.subarray(startOf(request, index), request.ends[index]!);
  if (request.kind === 'text') return { name: '', datatype: 'BYTES', shape: [1], data, content: 'text' };
  return { name: '', datatype: 'INT64', shape: [data.length / 8], data, content: 'tokens' };
}

/** To unit length, as the vectors of a model that may be cut are meant to be used. */
function normalize(vector: Float32Array): void {
  let squares = 0;
  for (let i = 0; i < vector.length; i++) squares += vector[i]! * vector[i]!;
  if (squares === 0) return;
  const scale = 1 / Math.sqrt(squares);
  for (let i = 0; i < vector.length; i++) vector[i]! *= scale;
}
