/**
 * What a model goes on from, as tokens or as work for a preprocess worker; and whether tokens fit the model.
 *
 * Called by the generator. Pure. Every refusal is INVALID_ARGUMENT, in Triton's words where it has some.
 */
import { invalid } from '../base/errors.js';
import type { ContentElements } from '../runtime/preprocess-messages.js';
import type { Generation } from './generation.js';
import type { Prompt } from './generation-types.js';

export interface PromptScope {
  readonly modelName: string;
  readonly generation: Generation;
  /** Bytes of one text. */
  readonly maxTextBytes: number;
}

/** Tokens to be looked at by {@link checkPromptTokens}, or one element for the preprocess pool, which makes them. */
export type ReadPrompt =
  | { readonly kind: 'tokens'; readonly tokens: Int32Array<ArrayBuffer> }
  | { readonly kind: 'element'; readonly element: ContentElements };

/** Throws INVALID_ARGUMENT. */
export function readPrompt(prompt: Prompt, scope: PromptScope): ReadPrompt {
  const { modelName, generation } = scope;
  if (prompt.kind === 'tokens') return { kind: 'tokens', tokens: checkedTokens(prompt.tokens, scope) };
  if (prompt.kind === 'chat') {
    if (generation.chatProblem !== '') {
      throw invalid(`model '${modelName}' takes no conversations: ${generation.chatProblem}`);
    }
    if (prompt.messages.length === 0) throw invalid(`conversation for model '${modelName}' has no messages`);
    const { messages, tools, templateArguments, addGenerationPrompt = true } = prompt;
    const names = {
      ...templateArguments,
      messages,
      add_generation_prompt: addGenerationPrompt,
      ...(tools && { tools }),
    };
    return { kind: 'element', element: { kind: 'chat', count: 1, data: bytesOf(JSON.stringify(names), scope) } };
  }
  if (prompt.text === '') throw invalid(`prompt for model '${modelName}' is empty`);
  const kind = prompt.addSpecialTokens === false ? 'prompt_bare' : 'prompt';
  return { kind: 'element', element: { kind, count: 1, data: bytesOf(prompt.text, scope) } };
}

/** Throws INVALID_ARGUMENT for a prompt of `count` tokens that is empty or leaves no room for another. */
function checkPromptSize(count: number, { modelName, generation }: Omit<PromptScope, 'maxTextBytes'>): void {
  const { contextLength } = generation.spec;
  if (count === 0) throw invalid(`prompt for model '${modelName}' has no tokens, at least 1 is needed`);
  if (count >= contextLength) {
    throw invalid(
      `prompt for model '${modelName}' has ${count} tokens, at most ${contextLength - 1} leave room in its context of ${contextLength} tokens`,
    );
  }
}

/** The same for what the tokenizer made of a text: some know tokens that their model does not, added to it later. */
export function checkPromptTokens(tokens: Int32Array, scope: Omit<PromptScope, 'maxTextBytes'>): void {
  checkPromptSize(tokens.length, scope);
  const { vocabularySize } = scope.generation.loaded;
  const unknown = tokens.find((id) => id >= vocabularySize);
  if (unknown === undefined) return;
  throw invalid(
    `prompt for model '${scope.modelName}' has token ${unknown} of its tokenizer, and the model knows tokens below ${vocabularySize} only`,
  );
}

function checkedTokens(tokens: readonly number[], scope: PromptScope): Int32Array<ArrayBuffer> {
  // Before they are looked at one by one.
  checkPromptSize(tokens.length, scope);
  const { vocabularySize } = scope.generation.loaded;
  const checked = new Int32Array(tokens.length);
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i]!;
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySize) {
      throw invalid(
        `token ${i} of the prompt for model '${scope.modelName}' must be a whole number between 0 and ${vocabularySize - 1}, got ${String(id)}`,
      );
    }
    checked[i] = id;
  }
  return checked;
}

/** One BYTES element. */
function bytesOf(text: string, { modelName, maxTextBytes }: PromptScope): Uint8Array {
  // Where even one byte for each unit is too many, nothing has to be made to see that.
  const bytes = text.length > maxTextBytes ? text.length : Buffer.byteLength(text);
  if (bytes > maxTextBytes) {
    throw invalid(
      `prompt for model '${modelName}' has ${text.length > maxTextBytes ? 'at least ' : ''}${bytes} bytes, at most ${maxTextBytes} are taken. Use --max-text-byte-size to increase the limit.`,
    );
  }
  const data = Buffer.allocUnsafe(4 + bytes);
  data.writeUInt32LE(bytes);
  data.write(text, 4);
  return data;
}
