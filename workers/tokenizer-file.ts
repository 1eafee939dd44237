/**
 * The parts of a tokenizer.json that are read here, checked: what is made of them afterwards would not tell a wrong one.
 *
 * Called by workers/tokenizer.ts. Pure; throws with what is wrong.
 */
import { printable } from '#src/base/errors';
import type { Component } from './tokenizer-json.js';

export interface TokenizerFile {
  readonly normalizer: Component | null;
  readonly pre_tokenizer: Component | null;
  readonly post_processor: Component | null;
  /** Its `type` is one of {@link MODELS}. */
  readonly model: Component;
}

const MODELS: readonly unknown[] = ['WordPiece', 'BPE', 'Unigram', 'WordLevel'];

/** `json` is the parsed file. */
export function tokenizerFile(json: unknown): TokenizerFile {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new Error('it is not a JSON object');
  const file = json as Partial<TokenizerFile>;
  const model = file.model;
  if (typeof model !== 'object' || model === null) throw new Error('it has no "model"');
  if (typeof model.vocab !== 'object' || model.vocab === null) throw new Error('its model has no "vocab"');
  const type = model.type ?? typeOf(model);
  if (!MODELS.includes(type))
    throw new Error(`its model has type ${shown(type)}, expected one of ${MODELS.join(', ')}`);
  if (type === 'Unigram') checkPieces(model.vocab);
  else checkIds(model.vocab);
  return {
    ...file,
    model: { ...model, type: type as string },
    normalizer: file.normalizer ?? null,
    pre_tokenizer: file.pre_tokenizer ?? null,
    post_processor: file.post_processor ?? null,
  };
}

/** Old files do not say what kind of model they hold. */
function typeOf(model: Component): string {
  if (Array.isArray(model.vocab)) return 'Unigram';
  if ('merges' in model) return 'BPE';
  return 'continuing_subword_prefix' in model ? 'WordPiece' : 'WordLevel';
}

/** Of Unigram: pieces with their scores, the place is the id. */
function checkPieces(vocabulary: object): void {
  if (!Array.isArray(vocabulary)) throw new Error('"vocab" of its Unigram model is no list');
  const wrong = vocabulary.findIndex(
    (entry: unknown) => !Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number',
  );
  if (wrong >= 0) throw new Error(`entry ${wrong} in "vocab" of its model is no piece with its score`);
}

/** Of the others: ids by token. */
function checkIds(vocabulary: object): void {
  if (Array.isArray(vocabulary)) throw new Error('"vocab" of its model is a list, expected ids by token');
  let count = 0;
  for (const [token, id] of Object.entries(vocabulary)) {
    if (!Number.isSafeInteger(id) || (id as number) < 0)
      throw new Error(`the id of '${printable(token, 40)}' in "vocab" of its model is ${shown(id)}`);
    count++;
  }
  if (count === 0) throw new Error('"vocab" of its model is empty');
}

const shown = (value: unknown): string => printable(JSON.stringify(value) ?? 'nothing', 40);
