/** A generator over a model whose thread is played by the test: what it is told is kept, what it says the test says. */
import { nowMs } from '../../src/base/clock.js';
import { ServeError } from '../../src/base/errors.js';
import type { Log } from '../../src/base/log.js';
import { Timeline } from '../../src/base/timeline.js';
import type { Generation, GenerationDefaults } from '../../src/engine/generation.js';
import { GenerationCounts } from '../../src/engine/generation-counts.js';
import type { GeneratedDelta, GenerateHandler, GenerateRequest } from '../../src/engine/generation-types.js';
import { Generator, type GeneratorOptions } from '../../src/engine/generator.js';
import type { Model } from '../../src/engine/model.js';
import { Statistics } from '../../src/engine/statistics.js';
import {
  type EndDetail,
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  GAUGE,
  type RecordDetail,
  type StartStream,
} from '../../src/runtime/generation-messages.js';
import type { PreprocessRequest } from '../../src/runtime/preprocess-pool.js';
import type { StreamListener, TokenStreams } from '../../src/runtime/token-streams.js';

type Started = Omit<StartStream, 'type' | 'stream'>;

/** Keeps what it is told; the test speaks for its streams. */
export class PlayedStreams implements TokenStreams {
  readonly started: Started[] = [];
  readonly cancelled: number[] = [];
  readonly credits: [stream: number, deltas: number][] = [];
  readonly gauges = new Float64Array(GAUGE.stepsBySize + 4);
  readonly #listeners = new Map<number, StreamListener>();
  readonly #startedMs: number[] = [];
  #timeMs = 0;

  load(): never {
    throw new Error('it is loaded');
  }

  start(start: Started, listener: StreamListener): number {
    this.#listeners.set(this.started.length, listener);
    this.#startedMs.push(nowMs());
    return this.started.push(start) - 1;
  }

  cancel(stream: number): void {
    this.cancelled.push(stream);
  }

  credit(stream: number, deltas: number): void {
    this.credits.push([stream, deltas]);
  }

  get streamCount(): number {
    return this.#listeners.size;
  }

  async close(): Promise<void> {}

  /** A token was chosen `afterMs` after the one before. */
  token(stream: number, text: string, options: { detail?: RecordDetail; flags?: number; afterMs?: number } = {}): void {
    const { detail, flags = FLAG_TOKEN, afterMs = 1 } = options;
    this.#timeMs = Math.max(this.#timeMs, nowMs()) + afterMs;
    const tokenId = text.length;
    const ends = (flags & (FLAG_END | FLAG_FAILED | FLAG_CANCELLED)) !== 0;
    const listener = this.#listeners.get(stream);
    if (ends) this.#listeners.delete(stream);
    listener?.onRecord({ flags, tokenId, logit: tokenId / 2, text, timeMs: this.#timeMs, detail });
  }

  /** The last token, of a stream that was scheduled at once. */
  end(stream: number, text: string, end: Partial<EndDetail> = {}): void {
    const startedMs = this.#startedMs[stream]!;
    const detail: RecordDetail = {
      end: {
        finishReason: 'stop',
        completionTokens: 2,
        cachedTokens: 0,
        scheduledMs: startedMs,
        prefillMs: startedMs,
        ...end,
      },
    };
    this.token(stream, text, { detail, flags: FLAG_TOKEN | FLAG_END });
  }

  /** The worker's answer to a cancel. */
  confirmCancel(stream: number): void {
    this.token(stream, '', { flags: FLAG_CANCELLED });
  }

  fail(stream: number, code: ServeError['code'], message: string): void {
    this.token(stream, '', { flags: FLAG_FAILED, detail: { failure: { code, message } } });
  }

  lose(stream: number): void {
    const listener = this.#listeners.get(stream);
    this.#listeners.delete(stream);
    listener?.onLost(new ServeError('UNAVAILABLE', 'the thread was lost'));
  }
}

export const DEFAULTS: GenerationDefaults = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  maxTokens: undefined,
  minTokens: 0,
  eosTokenIds: [1],
  suppressTokenIds: [],
};

/** `story` generates text from a context of 32 tokens, two at a time; `plain` does not. */
export function playedModel(name = 'story'): { model: Model; streams: PlayedStreams; counts: GenerationCounts } {
  const streams = new PlayedStreams();
  const counts = new GenerationCounts();
  const generation = {
    spec: { contextLength: 32, maxSequences: 2, kvCacheBytes: 1000 },
    loaded: { vocabularySize: 100 },
    streams,
    defaults: DEFAULTS,
    counts,
    chatProblem: '',
    isLost: false,
  } as unknown as Generation;
  const model = { name, version: '1', generation, admitting: 0, processorId: 7, statistics: new Statistics() };
  return { model: model as unknown as Model, streams, counts };
}

export interface Played extends ReturnType<typeof playedModel> {
  readonly generator: Generator;
  /** Prompts given to the preprocess workers; a word is a token, its length the id. */
  readonly prompts: PreprocessRequest['contents'][number][];
  readonly logged: string[];
}

export function playedGenerator(options: Partial<GeneratorOptions> = {}): Played {
  const own = playedModel();
  const plain = { ...playedModel('plain').model, generation: undefined, generationProblem: '' };
  const models = new Map([own.model, plain].map((model) => [model.name, model]));
  const prompts: Played['prompts'] = [];
  const logged: string[] = [];
  const line = (_: object, message: string) => void logged.push(message);
  const log: Log = { trace() {}, debug() {}, info: line, warn: line, error: line, child: () => log };
  const find = (name: string) => models.get(name);
  const generator = new Generator({
    registry: {
      find,
      whenReady: (name) => Promise.reject(new ServeError('NOT_FOUND', `Request for unknown model: '${name}'`)),
    },
    preprocess: {
      run: ({ contents, processor }, handler) => {
        if (processor !== 7) throw new Error('another processor');
        const [content] = contents;
        prompts.push({ ...content!, data: Uint8Array.from(content!.data) });
        const words = Buffer.from(content!.data.subarray(4)).toString().split(' ').filter(Boolean);
        const ids = Int32Array.from(words, (word) => word.length);
        const data = new Uint8Array(ids.buffer);
        const tensor = { name: '', datatype: 'INT32', dims: [ids.length], data } as const;
        let handled: typeof handler | undefined = handler;
        setImmediate(() => handled?.onPrepared({ tensors: [tensor], rowTokens: [] }));
        return () => {
          handled = undefined;
        };
      },
    },
    infer: (request, handler) => {
      const model = find(request.modelName);
      if (model?.generation) return generator.answer(model, request, handler);
      handler.onResponse({ modelName: 'plain', modelVersion: '1', id: request.id, outputs: [] });
      return () => undefined;
    },
    maxTextBytes: 1000,
    maxWaiting: 3,
    stallTimeoutMs: 60_000,
    log,
    ...options,
  });
  return { ...own, generator, prompts, logged };
}

export interface Heard extends GenerateHandler {
  readonly deltas: GeneratedDelta[];
  readonly errors: ServeError[];
}

/** Keeps what it is told. */
export function heard(): Heard {
  const deltas: GeneratedDelta[] = [];
  const errors: ServeError[] = [];
  return { deltas, errors, onDelta: (delta) => void deltas.push(delta), onError: (error) => void errors.push(error) };
}

/** A request for `story` with a prompt of three tokens. */
export function generateRequest(change: Partial<GenerateRequest> = {}): GenerateRequest {
  const timeline = new Timeline(nowMs());
  timeline.lastByte = timeline.decoded = timeline.firstByte;
  return {
    modelName: 'story',
    modelVersion: '',
    prompt: { kind: 'tokens', tokens: [5, 6, 7] },
    sampling: {},
    protocol: 'grpc',
    clientKey: 'me',
    deadlineMs: Number.POSITIVE_INFINITY,
    timeline,
    ...change,
  };
}
