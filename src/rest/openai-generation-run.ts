/**
 * The answers to one OpenAI request: each is a generation of its own in the engine, and all end together where one fails.
 *
 * Called by `openai-generation.ts`. Owns the running generations, their order, the sums of their tokens and the merged timeline.
 */
import type { ServeError } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import type { GenerateCall, GeneratedDelta } from '../engine/generation-types.js';
import type { Engine } from '../engine/types.js';
import type { Producer } from './event-stream.js';
import type { Answer, Usage } from './openai-chunks.js';
import { type OpenAiGeneration, samplingOf } from './openai-sampling.js';

export interface GenerationRunOptions {
  readonly engine: Engine;
  readonly request: OpenAiGeneration;
  /** Whom requests that wait take turns by. */
  readonly clientKey: string;
  /** Of the HTTP request, stamped up to `decoded`; those of the generations are merged into it. */
  readonly timeline: Timeline;
}

/** `onDelta` for each, then `onEnd` once all have ended; or `onError` once. */
export interface GenerationRunHandler {
  /** `producer` must be told when the delta has been taken. */
  onDelta(answer: Answer, delta: GeneratedDelta, producer: Producer): void;
  onEnd(): void;
  onError(error: ServeError): void;
}

/** One answer under way. */
class Running implements Producer {
  readonly answer: Answer;
  readonly timeline: Timeline;
  /** Tokens chosen so far. */
  tokens = 0;
  #call: GenerateCall | undefined;
  #early = 0;

  constructor(answer: Answer, { firstByte, lastByte, decoded }: Timeline) {
    this.answer = answer;
    this.timeline = new Timeline(firstByte);
    this.timeline.lastByte = lastByte;
    this.timeline.decoded = decoded;
  }

  start(call: GenerateCall): void {
    this.#call = call;
    if (this.#early > 0) call.taken(this.#early);
  }

  /** 0 until they are known, which they are with the first delta. */
  get promptTokens(): number {
    return this.answer.end?.promptTokens ?? this.#call?.promptTokens ?? 0;
  }

  /** The engine may give deltas before it has returned the call. */
  taken(deltas: number): void {
    if (this.#call === undefined) this.#early += deltas;
    else this.#call.taken(deltas);
  }

  cancel(): void {
    if (this.answer.end === undefined) this.#call?.cancel();
  }
}

export class GenerationRun {
  readonly #options: GenerationRunOptions;
  readonly #handler: GenerationRunHandler;
  readonly #running: Running[] = [];
  readonly answers: Answer[] = [];
  #open = 0;
  #ended = false;

  constructor(options: GenerationRunOptions, handler: GenerationRunHandler) {
    this.#options = options;
    this.#handler = handler;
    const { prompts, choices } = options.request;
    for (const { echo } of prompts) {
      for (let choice = 0; choice < choices; choice++) {
        const index = this.answers.length;
        const answer: Answer = { index, echo, begun: false, end: undefined };
        this.answers.push(answer);
        this.#running.push(new Running(answer, options.timeline));
      }
    }
    this.#open = this.answers.length;
  }

  start(): void {
    const { engine, request, clientKey } = this.#options;
    const { model, prompts, choices, sampling } = request;
    for (const running of this.#running) {
      const { index } = running.answer;
      const { prompt } = prompts[Math.floor(index / choices)]!;
      const call = engine.generate(
        {
          modelName: model,
          modelVersion: '',
          prompt,
          sampling: samplingOf(sampling, index % choices),
          protocol: 'rest',
          clientKey,
          deadlineMs: Infinity,
          timeline: running.timeline,
        },
        { onDelta: (delta) => this.#take(running, delta), onError: (error) => this.#fail(error) },
      );
      // It may have failed, or another before it, while generate() ran.
      if (this.#ended && running.answer.end === undefined) call.cancel();
      running.start(call);
      if (this.#ended) return;
    }
  }

  /** Nobody waits any more. Idempotent. */
  cancel(): void {
    this.#ended = true;
    for (const running of this.#running) running.cancel();
  }

  /** What has been used so far; whole once all have ended. */
  usage(): Usage {
    const { request } = this.#options;
    let prompt = 0;
    let cached = 0;
    for (let at = 0; at < this.answers.length; at += request.choices) {
      prompt += this.#running[at]!.promptTokens;
      cached += this.answers[at]!.end?.cachedTokens ?? 0;
    }
    let completion = 0;
    for (const { tokens } of this.#running) completion += tokens;
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      prompt_tokens_details: { cached_tokens: cached },
    };
  }

  /**
   * Stamps the request's timeline from those of its answers: each step from when the first of them was there, the end from when the
   * last was.
   */
  mergeTimelines(): void {
    const merged = this.#options.timeline;
    for (const { timeline } of this.#running) {
      for (const stamp of ['admitted', 'queued', 'dispatched', 'computeStart', 'firstToken'] as const) {
        if (timeline[stamp] > 0 && (merged[stamp] === 0 || timeline[stamp] < merged[stamp])) {
          merged[stamp] = timeline[stamp];
        }
      }
      for (const stamp of ['computeEnd', 'scattered', 'batchSize'] as const) {
        merged[stamp] = Math.max(merged[stamp], timeline[stamp]);
      }
    }
    merged.tokens = this.#running.reduce((sum, { timeline }) => sum + timeline.tokens, 0);
  }

  #take(running: Running, delta: GeneratedDelta): void {
    if (this.#ended) return;
    const { answer } = running;
    const { end } = delta;
    answer.end = end;
    running.tokens = end?.completionTokens ?? running.tokens + 1;
    this.#handler.onDelta(answer, delta, running);
    // It may have been too much.
    if (this.#ended || end === undefined || --this.#open > 0) return;
    this.#ended = true;
    this.#handler.onEnd();
  }

  #fail(error: ServeError): void {
    if (this.#ended) return;
    this.cancel();
    this.#handler.onError(error);
  }
}
