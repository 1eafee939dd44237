/**
 * Reads the `decoder` of a tokenizer.json: what steps its tokens pass to become text.
 *
 * Called by workers/detokenizer.ts, once for a tokenizer; `open` then makes the steps of one stream. Throws for decoders that are not
 * known, and for those behind Fuse that would have to see all of the text at once.
 */
import { CleanUp, cleanToken } from './detokenizer-cleanup.js';
import {
  ByteFallback,
  ByteLevel,
  Different,
  EachToken,
  EndOfWord,
  Fuse,
  Gathered,
  type Step,
  StripEnds,
} from './detokenizer-steps.js';
import type { Component } from './tokenizer-json.js';

type MakeStep = (next: Step) => Step;

export interface Decoder {
  /** Nothing but GPT-2's alphabet: a token is its bytes, and the text all bytes. */
  readonly isByteLevel: boolean;
  /** `<0xE2>` stands for a byte. */
  readonly hasByteFallback: boolean;
  open(): { readonly first: Step; readonly last: Gathered };
}

/** `cleanUp` as transformers would do it. */
export function readDecoder(decoder: Component | null, cleanUp: boolean): Decoder {
  const components = decoder ? flat(decoder) : [];
  const makers: MakeStep[] = [];
  let fused = false;
  for (const component of components) {
    makers.push(...(fused ? behindFuse(component) : makersOf(component)));
    fused ||= component.type === 'Fuse' || component.type === 'ByteLevel';
  }
  if (!decoder) makers.push(each((token, index) => (index > 0 ? ` ${token}` : token)));
  if (cleanUp) makers.push((next) => new CleanUp(next));
  return {
    isByteLevel: !cleanUp && components.length === 1 && components[0]!.type === 'ByteLevel',
    hasByteFallback: components.some(({ type }) => type === 'ByteFallback'),
    open: () => {
      const last = new Gathered();
      return { first: makers.reduceRight<Step>((next, make) => make(next), last), last };
    },
  };
}

function flat(component: Component): Component[] {
  if (component.type !== 'Sequence') return [component];
  if (!Array.isArray(component.decoders)) throw new Error('decoder: a Sequence has no list "decoders"');
  return (component.decoders as Component[]).flatMap(flat);
}

const each =
  (become: (token: string, index: number) => string): MakeStep =>
  (next) =>
    new EachToken(next, become);

function makersOf(component: Component): MakeStep[] {
  switch (component.type) {
    case 'Fuse':
      return [(next) => new Fuse(next)];
    case 'ByteLevel':
      return [(next) => new ByteLevel(next)];
    case 'ByteFallback':
      return [(next) => new ByteFallback(next)];
    case 'Replace':
      return [each(replacing(component))];
    case 'Strip': {
      const { character, start, stop } = stripOf(component);
      return [each((token) => stripped(token, character, start, stop))];
    }
    case 'Metaspace':
      return [each(metaspace(component))];
    case 'WordPiece':
      return [each(wordPiece(component))];
    case 'BPEDecoder': {
      const suffix = String(component.suffix ?? '</w>');
      return [(next) => new EndOfWord(next, suffix)];
    }
    case 'CTC':
      return [(next) => new Different(next), each(ctc(component))];
    default:
      throw new Error(`decoder: type ${component.type} is not known`);
  }
}

/** Of one token that comes in pieces, what can be told piece by piece. */
function behindFuse(component: Component): MakeStep[] {
  const pattern = (component.pattern as { String?: string } | undefined)?.String;
  if (component.type === 'Fuse') return [];
  if (component.type === 'Replace' && pattern?.length === 1) return [each(replacing(component))];
  if (component.type !== 'Strip') throw new Error(`decoder: ${component.type} behind Fuse is not supported`);
  const { character, start, stop } = stripOf(component);
  return [(next) => new StripEnds(next, character, start, stop)];
}

function replacing({ pattern, content }: Component): (token: string) => string {
  const { String: text, Regex: regex } = (pattern ?? {}) as { String?: string; Regex?: string };
  const from = text ?? (regex === undefined ? undefined : new RegExp(regex, 'gu'));
  if (from === undefined) throw new Error('decoder: a Replace has no pattern');
  const to = String(content ?? '');
  return (token) => token.replaceAll(from, () => to);
}

function stripOf({ content, start, stop }: Component): { character: string; start: number; stop: number } {
  return { character: String(content ?? ' '), start: Number(start ?? 0), stop: Number(stop ?? 0) };
}

function stripped(token: string, character: string, start: number, stop: number): string {
  let from = 0;
  let to = token.length;
  for (let i = 0; i < start && token.startsWith(character, from); i++) from += character.length;
  for (let i = 0; i < stop && to > from && token.endsWith(character, to); i++) to -= character.length;
  return token.slice(from, to);
}

function metaspace({
  replacement,
  prepend_scheme,
  add_prefix_space,
}: Component): (token: string, index: number) => string {
  const mark = String(replacement ?? '▁');
  const prepends = prepend_scheme === undefined ? add_prefix_space !== false : prepend_scheme !== 'never';
  return (token, index) => token.replaceAll(mark, index === 0 && prepends ? '' : ' ');
}

function wordPiece({ prefix, cleanup }: Component): (token: string, index: number) => string {
  const start = String(prefix ?? '##');
  const clean = cleanup === false ? (token: string) => token : cleanToken;
  return (token, index) => {
    if (index === 0) return clean(token);
    return clean(token.startsWith(start) ? token.slice(start.length) : ` ${token}`);
  };
}

function ctc({ pad_token, word_delimiter_token, cleanup }: Component): (token: string) => string {
  const pad = String(pad_token ?? '<pad>');
  const delimiter = String(word_delimiter_token ?? '|');
  return (token) => {
    const text = token.replaceAll(pad, '');
    return cleanup === false ? text : cleanToken(text).replaceAll(delimiter, ' ');
  };
}
