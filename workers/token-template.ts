/**
 * The tokens that a tokenizer puts around texts ([CLS] a [SEP] b [SEP]), and how texts are cut so that they fit with them.
 *
 * Called by workers/text.ts. Does what Hugging Face's own library does with `post_processor` and `enable_truncation`, which
 * @huggingface/tokenizers has no truncation for.
 */
import type { Component } from './tokenizer-json.js';

/** Tokens of one row and the type of each. */
export interface TokenRow {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
}

/** A place in a row: the first text, the second, or tokens of the template's own. */
type Part =
  | { readonly text: 'A' | 'B'; readonly typeId: number }
  | { readonly ids: readonly number[]; readonly typeId: number };

export class TokenTemplate {
  readonly #single: readonly Part[];
  readonly #pair: readonly Part[];
  readonly #keepEnd: boolean;

  /** `truncationSide` as transformers' tokenizer_config.json has it. Throws for a post-processor that is not known. */
  constructor(
    postProcessor: Component | null,
    options: { addSpecialTokens: boolean; truncationSide: 'left' | 'right' },
  ) {
    const { single, pair } = partsOf(postProcessor);
    const keep = (part: Part): boolean => options.addSpecialTokens || 'text' in part;
    this.#single = single.filter(keep);
    this.#pair = pair.filter(keep);
    this.#keepEnd = options.truncationSide === 'left';
  }

  /** Tokens that a row has besides those of its texts. */
  added(isPair: boolean): number {
    let count = 0;
    for (const part of isPair ? this.#pair : this.#single) if ('ids' in part) count += part.ids.length;
    return count;
  }

  /** The row of one text or two, cut to `maxTokens` in all. */
  row(a: readonly number[], b: readonly number[] | undefined, maxTokens: number): TokenRow {
    const room = Math.max(0, maxTokens - this.added(b !== undefined));
    const [lengthA, lengthB] = lengthsWithin(a.length, b?.length ?? 0, room);
    const ids: number[] = [];
    const typeIds: number[] = [];
    for (const part of b ? this.#pair : this.#single) {
      const [from, length] =
        'ids' in part ? [part.ids, part.ids.length] : part.text === 'A' ? [a, lengthA] : [b ?? [], lengthB];
      const start = this.#keepEnd ? from.length - length : 0;
      for (let i = start; i < start + length; i++) {
        ids.push(from[i]!);
        typeIds.push(part.typeId);
      }
    }
    return { ids, typeIds };
  }
}

/** How many tokens of two texts are kept so that they are at most `room` together: the longer gives first. */
export function lengthsWithin(a: number, b: number, room: number): [number, number] {
  if (a + b <= room) return [a, b];
  if (b === 0) return [room, 0];
  const short = Math.min(a, b);
  let long = short > room ? short : Math.max(short, room - short);
  let kept = short;
  if (kept + long > room) {
    kept = Math.floor(room / 2);
    long = kept + (room % 2);
  }
  return a > b ? [long, kept] : [kept, long];
}

const A = (typeId: number): Part => ({ text: 'A', typeId });
const B = (typeId: number): Part => ({ text: 'B', typeId });
const PLAIN = { single: [A(0)], pair: [A(0), B(1)] };

function partsOf(postProcessor: Component | null): { single: readonly Part[]; pair: readonly Part[] } {
  switch (postProcessor?.type) {
    // Byte-level post-processing concerns offsets alone.
    case undefined:
    case 'ByteLevel':
      return PLAIN;
    case 'BertProcessing': {
      const [cls, sep] = [idsOf(postProcessor.cls), idsOf(postProcessor.sep)];
      const single = [{ ids: cls, typeId: 0 }, A(0), { ids: sep, typeId: 0 }];
      return { single, pair: [...single, B(1), { ids: sep, typeId: 1 }] };
    }
    case 'RobertaProcessing': {
      const [cls, sep] = [idsOf(postProcessor.cls), idsOf(postProcessor.sep)];
      const single = [{ ids: cls, typeId: 0 }, A(0), { ids: sep, typeId: 0 }];
      return { single, pair: [...single, { ids: sep, typeId: 0 }, B(0), { ids: sep, typeId: 0 }] };
    }
    case 'TemplateProcessing':
      return {
        single: templateParts(postProcessor, 'single'),
        pair: templateParts(postProcessor, 'pair'),
      };
    case 'Sequence': {
      const adding = (postProcessor.processors as Component[]).filter(({ type }) => type !== 'ByteLevel');
      if (adding.length > 1)
        throw new Error('post_processor: a Sequence of more than one that adds tokens is not supported');
      return partsOf(adding[0] ?? null);
    }
    default:
      throw new Error(`post_processor: type ${postProcessor?.type} is not known`);
  }
}

/** The id in `["[SEP]", 102]`. */
function idsOf(token: unknown): number[] {
  const id = Array.isArray(token) ? (token[1] as unknown) : undefined;
  if (typeof id !== 'number') throw new Error('post_processor: cls and sep are not pairs of a token and its id');
  return [id];
}

interface TemplatePiece {
  readonly SpecialToken?: { readonly id: string; readonly type_id: number };
  readonly Sequence?: { readonly id: 'A' | 'B'; readonly type_id: number };
}

function templateParts(template: Component, key: 'single' | 'pair'): Part[] {
  const tokens = (template.special_tokens ?? {}) as Record<string, { readonly ids?: unknown } | undefined>;
  const pieces = template[key];
  if (!Array.isArray(pieces)) throw new Error(`post_processor: its template has no list "${key}"`);
  return (pieces as TemplatePiece[]).map(({ SpecialToken, Sequence }) => {
    if (Sequence) return { text: Sequence.id, typeId: Sequence.type_id };
    const ids = SpecialToken && tokens[SpecialToken.id]?.ids;
    if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0))
      throw new Error(`post_processor: its template uses ${SpecialToken?.id}, of which it does not give the ids`);
    return { ids, typeId: SpecialToken!.type_id };
  });
}
