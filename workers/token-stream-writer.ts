/**
 * From a row of logits to a record: chooses the token, makes its text, finds the end, writes what main is to know.
 *
 * Called by workers/token-stream.ts. Changes of a stream its tokens, its text and its credit, never its place. Writes no JSON for a token
 * without log probabilities. The ring is published by the caller, once a step.
 */
import { nowMs } from '#src/base/clock';
import {
  type EndDetail,
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  type LogprobDetail,
  type RecordDetail,
} from '#src/runtime/generation-messages';
import type { Failure } from '#src/runtime/messages';
import type { RingWriter } from '#src/runtime/token-ring';
import type { Detokenizer } from './detokenizer.js';
import type { ChosenToken } from './sampler.js';
import type { TokenStream } from './token-stream-state.js';
import { TokenText } from './token-stream-text.js';

/** JSON has no infinity; what can't be chosen at all is given as this. */
const LEAST_LOGPROB = -9999;

/** Of the ring, what the loop needs. */
export type RecordRing = Pick<RingWriter, 'write' | 'publish'>;

export interface TokenWriterOptions {
  readonly ring: RecordRing;
  readonly detokenizer: Detokenizer;
  readonly vocabularySize: number;
  readonly contextLength: number;
}

interface Ending {
  readonly text: string;
  readonly finishReason: EndDetail['finishReason'];
  readonly stopReason?: number | string;
}

export class TokenWriter {
  readonly #options: TokenWriterOptions;

  constructor(options: TokenWriterOptions) {
    this.#options = options;
  }

  /** Chooses the next token of `stream` from `logits` and writes its record. Returns whether the stream has ended. May throw a ServeError. */
  next(stream: TokenStream, logits: Float32Array): boolean {
    const { ring, detokenizer, vocabularySize } = this.#options;
    const token = stream.sampler(vocabularySize).choose(logits);
    stream.push(token.id);
    stream.credit--;
    const withLogprobs = stream.sampling.logprobs >= 0;
    if (withLogprobs) stream.cumulativeLogprob += finite(token.logprob);
    const text = (stream.text ??= new TokenText(detokenizer, stream.sampling));
    const offset = withLogprobs ? text.offsetOf(token.id) : 0;
    const ends = stream.endIds.has(token.id);
    // The end's own token has no text.
    const pushed = ends ? '' : text.push(token.id);
    const ending = this.#ending(stream, text, pushed, token.id, ends);
    const timeMs = nowMs();
    if (!ending && !withLogprobs)
      return !ring.write(stream.number, FLAG_TOKEN, token.id, token.logit, timeMs, pushed, '');
    const detail: RecordDetail = {
      ...(withLogprobs && { logprob: this.#logprob(token, offset) }),
      ...(ending && { end: endDetail(stream, ending) }),
    };
    const flags = ending ? FLAG_TOKEN | FLAG_END : FLAG_TOKEN;
    const written = ring.write(
      stream.number,
      flags,
      token.id,
      token.logit,
      timeMs,
      ending?.text ?? pushed,
      JSON.stringify(detail),
    );
    return ending !== undefined || !written;
  }

  fail(stream: number, failure: Failure): void {
    this.#options.ring.write(
      stream,
      FLAG_FAILED,
      0,
      0,
      nowMs(),
      '',
      JSON.stringify({ failure } satisfies RecordDetail),
    );
  }

  cancelled(stream: number): void {
    this.#options.ring.write(stream, FLAG_CANCELLED, 0, 0, nowMs(), '', '');
  }

  #ending(stream: TokenStream, text: TokenText, pushed: string, id: number, ends: boolean): Ending | undefined {
    if (text.stopped !== undefined) return { text: pushed, finishReason: 'stop', stopReason: text.stopped };
    const { sampling, chosen, length } = stream;
    if (!ends && chosen < sampling.maxTokens && length < this.#options.contextLength) return undefined;
    const all = pushed + text.flush();
    // Half a character that is given up can complete a stop string.
    if (text.stopped !== undefined) return { text: all, finishReason: 'stop', stopReason: text.stopped };
    if (!ends) return { text: all, finishReason: 'length' };
    const own = sampling.eosTokenIds.includes(id);
    return { text: all, finishReason: 'stop', ...(!own && { stopReason: id }) };
  }

  #logprob({ id, logprob, top }: ChosenToken, offset: number): RecordDetail['logprob'] {
    return { ...this.#detail(id, logprob), offset, top: top.map((other) => this.#detail(other.id, other.logprob)) };
  }

  #detail(id: number, logprob: number): LogprobDetail {
    const { detokenizer } = this.#options;
    return { id, token: detokenizer.tokenText(id), bytes: [...detokenizer.tokenBytes(id)], logprob: finite(logprob) };
  }
}

function endDetail(stream: TokenStream, { finishReason, stopReason }: Ending): EndDetail {
  return {
    finishReason,
    ...(stopReason !== undefined && { stopReason }),
    completionTokens: stream.chosen,
    cachedTokens: stream.cachedTokens,
    ...(stream.sampling.logprobs >= 0 && { cumulativeLogprob: stream.cumulativeLogprob }),
    scheduledMs: stream.scheduledMs,
    prefillMs: stream.prefillMs,
  };
}

const finite = (logprob: number): number => (Number.isFinite(logprob) ? logprob : LEAST_LOGPROB);
