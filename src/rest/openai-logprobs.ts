/**
 * Log probabilities in OpenAI's two forms: a list of tokens for chat, four columns for completions.
 *
 * Called by `openai-chunks.ts`.
 */
import type { GeneratedDelta, TokenLogprob } from '../engine/generation-types.js';

/** Whether a delta's token is part of the answer and has a probability: the one that ended it is not, unless text came with it. */
export function isSaid({ logprob, text, end }: GeneratedDelta): boolean {
  if (logprob === undefined) return false;
  const endedIt = end?.finishReason === 'stop' && typeof end.stopReason !== 'string';
  return !endedIt || text !== '';
}

/** The `logprobs` of a chat answer. */
export function chatLogprobs(deltas: readonly GeneratedDelta[]): unknown {
  const content = deltas.map(({ logprob }) => ({ ...token(logprob!), top_logprobs: logprob!.top.map(token) }));
  return { content, refusal: null };
}

function token({ token, logprob, bytes }: TokenLogprob): { token: string; logprob: number; bytes: readonly number[] } {
  return { token: token.toWellFormed(), logprob: finite(logprob), bytes };
}

/** Characters as OpenAI counts them, which is as Python does: one for each code point. */
export function lengthOf(text: string): number {
  let length = text.length;
  for (let at = 1; at < text.length; at++) {
    if ((text.charCodeAt(at) & 0xfc00) === 0xdc00 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800) length--;
  }
  return length;
}

/** The `logprobs` of a completion, whose tokens begin at character `offset` of its text. */
export function textLogprobs(deltas: readonly GeneratedDelta[], offset: number): unknown {
  const tokens: string[] = [];
  const probabilities: number[] = [];
  const tops: Record<string, number>[] = [];
  const offsets: number[] = [];
  let at = offset;
  for (const { text, logprob } of deltas) {
    const { top, ...chosen } = logprob!;
    tokens.push(nameOf(chosen));
    probabilities.push(finite(chosen.logprob));
    const names = [...top, chosen].map((one): [string, number] => [nameOf(one), finite(one.logprob)]);
    tops.push(Object.fromEntries(names));
    offsets.push(at);
    at += lengthOf(text);
  }
  return { text_offset: offsets, token_logprobs: probabilities, tokens, top_logprobs: tops };
}

/** The token as text, or its bytes as OpenAI writes those that are no text by themselves. */
function nameOf({ token, bytes }: TokenLogprob): string {
  if (!token.includes('\ufffd')) return token.toWellFormed();
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
}

/** JSON has no infinity; OpenAI's own least value stands for what can't be. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}
