/**
 * What the front ends and the engine say to each other about generated text: one request, one stream of tokens.
 *
 * Called by `grpc/`, `rest/` and the engine's own parts; `types.ts` has the door. Must not know protobuf, HTTP, threads or ONNX Runtime.
 */
import type { ServeError } from '../base/errors.js';
import type { Timeline } from '../base/timeline.js';

/** What the model goes on from. */
export type Prompt =
  /** UTF-8 text; special tokens are added as the tokenizer's file says, unless `addSpecialTokens` is false. */
  | { readonly kind: 'text'; readonly text: string; readonly addSpecialTokens?: boolean }
  /** Ids of the model's own tokenizer. */
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] }
  /** A conversation, made text by the model's chat template. */
  | {
      readonly kind: 'chat';
      /** As received; the template reads `role`, `content` and whatever else it knows. */
      readonly messages: readonly Readonly<Record<string, unknown>>[];
      readonly tools?: readonly unknown[];
      /** More names for the template (`enable_thinking` and its like). */
      readonly templateArguments?: Readonly<Record<string, unknown>>;
      /** True unless said otherwise: the template opens the assistant's turn. */
      readonly addGenerationPrompt?: boolean;
    };

/**
 * How tokens are chosen, in this order: logit bias and forbidden tokens, penalties, temperature, top k, top p, min p, draw. A member left
 * out takes the model's default (generation_config.json) and then the one named here. The engine checks ranges; front ends only types.
 */
export interface SamplingParameters {
  /** Most tokens to generate, from 1; left out: what the context has room for. More than there is room for is cut to that. */
  readonly maxTokens?: number;
  /** No end of sequence before this many; 0. */
  readonly minTokens?: number;
  /** From 0 (the likeliest token always) to 2; the model's own where it samples by default, else 0. */
  readonly temperature?: number;
  /** The k likeliest only; 0 or -1 = all. */
  readonly topK?: number;
  /** The likeliest that together have this probability, in (0, 1]; 1. */
  readonly topP?: number;
  /** Those at least this part as likely as the likeliest, in [0, 1]; 0. */
  readonly minP?: number;
  /** Divides (or multiplies, where negative) logits of tokens in prompt and output, above 0; 1 = none. */
  readonly repetitionPenalty?: number;
  /** Taken from logits of tokens in the output, -2 to 2; 0. */
  readonly presencePenalty?: number;
  /** Taken for each time a token is in the output, -2 to 2; 0. */
  readonly frequencyPenalty?: number;
  /** Any 64-bit integer: the same tokens for the same request; left out: another each time. */
  readonly seed?: number | bigint;
  /** Log probabilities of the chosen token and of this many likeliest ones, 0 to 20; left out: none. */
  readonly logprobs?: number;
  /** The text ends before the first of these. */
  readonly stop?: readonly string[];
  readonly stopTokenIds?: readonly number[];
  /** Added to logits by token id, -100 to 100. */
  readonly logitBias?: ReadonlyMap<number, number>;
  /** Go on past the end-of-sequence token. */
  readonly ignoreEos?: boolean;
  /** Leave special tokens out of the text; true. */
  readonly skipSpecialTokens?: boolean;
  /** Keep the stop string that ended the text. */
  readonly includeStop?: boolean;
}

export interface GenerateRequest {
  readonly modelName: string;
  /** '' = the highest ready version. */
  readonly modelVersion: string;
  readonly prompt: Prompt;
  readonly sampling: SamplingParameters;
  readonly protocol: 'grpc' | 'rest';
  /** Requests that wait take turns by this: the peer's address, with whom the client says it asks for. */
  readonly clientKey: string;
  /** When the caller stops waiting, on the clock of base/clock.ts; Infinity when not known. */
  readonly deadlineMs: number;
  /** Refused with UNAVAILABLE where its prompt, once it is tokens, waits longer for the first token; left out: as long as it takes. */
  readonly queueTimeoutMs?: number;
  /** Stamped by the front end up to `decoded` and at the end `encoded`, by the engine between. */
  readonly timeline: Timeline;
}

export interface TokenLogprob {
  readonly id: number;
  /** The token as text; U+FFFD stands for bytes that are no whole character by themselves. */
  readonly token: string;
  /** Its bytes, which put behind each other are the text. */
  readonly bytes: readonly number[];
  /** Natural logarithm, after temperature 1 and before any cut. */
  readonly logprob: number;
}

export interface ChosenLogprob extends TokenLogprob {
  /**
   * Characters (code points) of the generated text before this token's own, also while that text is held back; a token that goes on with
   * a character has the offset of that. Behind a stop string that ended the text it may be more than the text has.
   */
  readonly offset: number;
  /** Alternatives, likeliest first. */
  readonly top: readonly TokenLogprob[];
}

/** One token that was chosen, and what text has become certain with it. */
export interface GeneratedDelta {
  /** Never half a character, never taken back; '' while a character is incomplete or may begin a stop string. */
  readonly text: string;
  /** -1 on a last one for which none was chosen. */
  readonly tokenId: number;
  /** The model's own output for that token. */
  readonly logit: number;
  /** Only where asked for. */
  readonly logprob?: ChosenLogprob;
  /** Set on the last one. */
  readonly end?: GenerationEnd;
}

export interface GenerationEnd {
  /** `stop`: the end-of-sequence token, a stop id or a stop string; `length`: maxTokens or the context is used up. */
  readonly finishReason: 'stop' | 'length';
  /** The stop id or stop string that it was; undefined for the model's own end or for `length`. */
  readonly stopReason?: number | string;
  readonly promptTokens: number;
  /** Chosen tokens, an end-of-sequence token among them. */
  readonly completionTokens: number;
  /** Of the prompt, those that came from the prefix cache. */
  readonly cachedTokens: number;
  /** Sum of the chosen tokens' log probabilities; NaN where logprobs were not asked for. */
  readonly cumulativeLogprob: number;
}

/**
 * Called in order: `onDelta` for each token, the last with `end`; or, at any point, `onError` once. After either end, or a cancel,
 * nothing more. None may throw. Deltas of one step come in one turn of the event loop.
 */
export interface GenerateHandler {
  onDelta(delta: GeneratedDelta): void;
  onError(error: ServeError): void;
}

/** A running generation, as its front end holds it. */
export interface GenerateCall {
  /** Tokens of the prompt; 0 or undefined until they are known. */
  readonly promptTokens?: number;
  /** The caller has gone: no step is made for it any more. Idempotent; nothing is called from here on. */
  cancel(): void;
  /**
   * The transport has taken this many deltas. A stream whose deltas are not taken pauses when its window is used up, and is ended with
   * RESOURCE_EXHAUSTED when that lasts too long; other streams go on.
   */
  taken(deltas: number): void;
}

/** What a model that generates text is, for the front ends. */
export interface GenerativeContent {
  /** Tokens of prompt and text together. */
  readonly contextLength: number;
  readonly vocabularySize: number;
  /** Why it takes no conversations; '' where it does. */
  readonly chatProblem: string;
}
