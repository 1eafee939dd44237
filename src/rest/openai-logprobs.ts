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

/** The `logprobs` of a completion. The prompt is not before it: `echo` is refused where they are asked for. */
export function textLogprobs(deltas: readonly GeneratedDelta[]): unknown {
  const tokens: string[] = [];
  const probabilities: number[] = [];
  const tops: Record<string, number>[] = [];
  const offsets: number[] = [];
  for (const { logprob } of deltas) {
    const { top, offset, ...chosen } = logprob!;
    tokens.push(nameOf(chosen));
    probabilities.push(finite(chosen.logprob));
    const names = [...top, chosen].map((one): [string, number] => [nameOf(one), finite(one.logprob)]);
    tops.push(Object.fromEntries(names));
    offsets.push(offset);
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
