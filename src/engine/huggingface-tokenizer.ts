/**
 * What tokenizer.json and the files beside it say of a text's way to tokens: its limit, its padding, whether it takes pairs.
 *
 * Called by huggingface.ts. Must not tokenize: the contents of the files go to the preprocess workers as they are. Everything that
 * throws throws INVALID_ARGUMENT naming file and field.
 */
import type { TextSpec } from '../runtime/preprocess-messages.js';
import type { HubConfig } from './huggingface-config.js';
import { JsonFields } from './huggingface-json.js';
import { jsonSections } from './huggingface-sections.js';

export interface HubTokenizer {
  readonly tokenizerJson: TextSpec['tokenizerJson'];
  readonly tokenizerConfigJson: string;
  readonly maxTokens: number;
  readonly paddingSide: 'right' | 'left';
  readonly padTokenId: number;
  readonly padTokenTypeId: number;
  /** Two texts can be put together. */
  readonly takesPairs: boolean;
}

export interface TokenizerFile {
  readonly subject: string;
  readonly bytes: Uint8Array;
}

/** Files beside tokenizer.json, each where it is there. */
export interface TokenizerSettings {
  /** tokenizer_config.json. */
  readonly tokenizerConfig: JsonFields | undefined;
  readonly tokenizerConfigJson: string;
  /** special_tokens_map.json. */
  readonly specialTokens: JsonFields | undefined;
  /** sentence_bert_config.json. */
  readonly sentenceBert: JsonFields | undefined;
  /** config.json. */
  readonly config: HubConfig;
}

/** Where no file names a limit: attention to more than this takes gigabytes. */
const MAX_TOKENS = 8192;

/** Python writes "no limit" as a number such as 1e30. */
const UNLIMITED = 10_000_000;

/** tokenizer.json as far as main looks into it. */
export interface TokenizerParts {
  /** All but the vocabulary. */
  readonly head: JsonFields;
  readonly model: Uint8Array;
}

export async function tokenizerParts(file: TokenizerFile): Promise<TokenizerParts> {
  const sections = await jsonSections(file.subject, file.bytes);
  const head = headOf(file.subject, sections);
  const model = sections.get('model');
  if (model === undefined) throw head.wrong('model', 'an object');
  return { head, model };
}

export async function parseTokenizer(file: TokenizerFile, settings: TokenizerSettings): Promise<HubTokenizer> {
  const { head, model } = await tokenizerParts(file);
  const padding = head.object('padding');
  const { tokenizerConfig, config } = settings;
  checkTruncationSide(tokenizerConfig);
  return {
    tokenizerJson: shared(file.bytes),
    tokenizerConfigJson: settings.tokenizerConfigJson,
    maxTokens: maxTokens(head, settings),
    paddingSide: paddingSide(tokenizerConfig, padding),
    padTokenId: padTokenId({ head, model }, settings) ?? config.padTokenId ?? padding?.integer('pad_id', 0) ?? 0,
    padTokenTypeId: padding?.integer('pad_type_id', 0) ?? tokenizerConfig?.integer('pad_token_type_id', 0) ?? 0,
    takesPairs: takesPairs(head.object('post_processor')),
  };
}

/** To the workers without another copy. Decoding 17 MB of other scripts' words took the main thread 90 ms, each copy of them 18. */
export function shared(bytes: Uint8Array): Uint8Array<SharedArrayBuffer> {
  const memory = new Uint8Array(new SharedArrayBuffer(bytes.byteLength));
  memory.set(bytes);
  return memory;
}

/** All but the vocabulary. */
function headOf(subject: string, sections: ReadonlyMap<string, Uint8Array>): JsonFields {
  const parts: string[] = [];
  for (const name of ['truncation', 'padding', 'added_tokens', 'post_processor']) {
    const bytes = sections.get(name);
    if (bytes !== undefined) parts.push(`"${name}":${new TextDecoder().decode(bytes)}`);
  }
  return JsonFields.parse(subject, Buffer.from(`{${parts.join(',')}}`));
}

/**
 * The smallest of the limits that are named. What tokenizer.json says of truncation counts only where nothing else speaks of the
 * tokenizer: it is how it happened to be used when it was saved, and both transformers and sentence-transformers set it anew.
 */
function maxTokens(head: JsonFields, { tokenizerConfig, sentenceBert, config }: TokenizerSettings): number {
  const declared = [limit(tokenizerConfig, 'model_max_length'), limit(sentenceBert, 'max_seq_length')];
  const saved = limit(head.object('truncation'), 'max_length');
  const limits = declared.some((value) => value !== undefined) ? declared : [saved];
  const known = [...limits, config.maxTokens].filter((value) => value !== undefined);
  return known.length > 0 ? Math.min(...known) : MAX_TOKENS;
}

/** A number of tokens; undefined where the file has none, or says that there is no limit. */
export function limit(file: JsonFields | undefined, field: string): number | undefined {
  const value = file?.number(field);
  if (value === undefined || value >= UNLIMITED) return undefined;
  return file!.integer(field, 1);
}

/** The workers read it themselves. */
function checkTruncationSide(tokenizerConfig: JsonFields | undefined): void {
  const side = tokenizerConfig?.string('truncation_side');
  if (side === undefined || side === 'right' || side === 'left') return;
  throw tokenizerConfig!.wrong('truncation_side', "'right' or 'left'");
}

function paddingSide(tokenizerConfig: JsonFields | undefined, padding: JsonFields | undefined): 'right' | 'left' {
  const side = tokenizerConfig?.string('padding_side');
  if (side !== undefined) {
    if (side === 'right' || side === 'left') return side;
    throw tokenizerConfig!.wrong('padding_side', "'right' or 'left'");
  }
  const direction = padding?.string('direction') ?? 'Right';
  if (direction === 'Right' || direction === 'Left') return direction === 'Right' ? 'right' : 'left';
  throw padding!.wrong('direction', "'Right' or 'Left'");
}

/** Id of the padding token that the tokenizer's files name; undefined where they name none or do not number it. */
function padTokenId(parts: TokenizerParts, { tokenizerConfig, specialTokens }: TokenizerSettings): number | undefined {
  const token = tokenOf(tokenizerConfig, 'pad_token') ?? tokenOf(specialTokens, 'pad_token');
  return token === undefined ? undefined : tokenId(parts, token);
}

/** Undefined where the tokenizer does not number it. */
export function tokenId({ head, model }: TokenizerParts, token: string): number | undefined {
  for (const added of head.objects('added_tokens') ?? []) {
    if (added.string('content') === token) return added.integer('id', 0);
  }
  return idInVocabulary(model, token);
}

/** Special tokens are written as text, or as an object with the text in `content`. */
export function tokenOf(file: JsonFields | undefined, field: string): string | undefined {
  if (file === undefined || !file.has(field)) return undefined;
  return file.isString(field) ? file.string(field) : file.object(field)!.string('content');
}

/** Looked up without parsing: `"[PAD]": 0` stands once in a vocabulary of words by their ids. One of words in order has none. */
function idInVocabulary(model: Uint8Array, token: string): number | undefined {
  const buffer = Buffer.from(model.buffer, model.byteOffset, model.byteLength);
  const key = JSON.stringify(token);
  const found = buffer.indexOf(key);
  if (found < 0) return undefined;
  const behind = buffer.toString('latin1', found + Buffer.byteLength(key), found + Buffer.byteLength(key) + 64);
  const match = /^\s*:\s*(\d{1,9})\b/.exec(behind);
  return match ? Number(match[1]) : undefined;
}

function takesPairs(processor: JsonFields | undefined): boolean {
  switch (processor?.string('type')) {
    case 'TemplateProcessing':
      return (processor!.objects('pair') ?? []).some((piece) => piece.object('Sequence')?.string('id') === 'B');
    case 'BertProcessing':
    case 'RobertaProcessing':
      return true;
    case 'Sequence':
      return (processor!.objects('processors') ?? []).some(takesPairs);
    default:
      return false;
  }
}
