/**
 * Characters as Python counts them, and so OpenAI's API: one for each code point.
 *
 * Called by the detokenizer and by workers/token-stream-text.ts, for streams with log probabilities. Pure.
 */

/** `text` is well-formed. */
export function charactersOf(text: string): number {
  let count = text.length;
  for (let at = 0; at < text.length; at++) if ((text.charCodeAt(at) & 0xfc00) === 0xdc00) count--;
  return count;
}
