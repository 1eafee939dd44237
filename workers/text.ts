/**
 * Texts to the token tensors of a model.
 *
 * Called by workers/preprocess-worker.ts. Owns a tokenizer. Refuses with ServeError what is no text, what gives no tokens and, where asked
 * to, what is too long; the errors name the text by its place in the request.
 */
import { invalid, printable, ServeError } from '#src/base/errors';
import type { ContentElements, Prepared, TextSpec } from '#src/runtime/preprocess-messages';
import { elementsOf } from './content-elements.js';
import { textTensors } from './text-tensors.js';
import { type TokenRow, TokenTemplate } from './token-template.js';
import { createTokenizer, type TextTokenizer } from './tokenizer.js';

type Content = ContentElements<Uint8Array<ArrayBuffer>>;

/** Padded tensors of one request may take so much. */
const MAX_TENSOR_BYTES = 256 * 1024 * 1024;

/** `ignoreBOM`: a byte order mark is a character of the text, as it is for Python's `tokenizers`. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class TextProcessor {
  readonly #spec: TextSpec;
  readonly #tokenizer: TextTokenizer;
  readonly #template: TokenTemplate;

  /** Throws INVALID_ARGUMENT for files that make no tokenizer. */
  constructor(spec: TextSpec) {
    this.#spec = spec;
    const { tokenizer, template } = loadTokenizer(spec, spec.addSpecialTokens);
    this.#tokenizer = tokenizer;
    this.#template = template;
    if (spec.maxTokens <= this.#template.added(false))
      throw invalid(
        `the model takes ${spec.maxTokens} tokens, and tokenizer.json adds ${this.#template.added(false)} to every text`,
      );
  }

  /** `pairs`, where given, holds the second sentence of each. */
  prepare(texts: Content, pairs: Content | undefined, truncate: boolean): Prepared {
    const first = elementsOf(texts);
    const second = pairs && elementsOf(pairs);
    if (second && second.length !== first.length)
      throw invalid(`there are ${first.length} texts and ${second.length} second sentences: they come in pairs`);
    const rows = first.map((bytes, i) => this.#row(i, bytes, second?.[i], truncate));
    let longest = this.#spec.fixedTokens ?? 0;
    for (const { ids } of rows) longest = Math.max(longest, ids.length);
    this.#checkSize(rows.length, longest);
    this.#checkPadding(rows, longest);
    return { tensors: textTensors(rows, longest, this.#spec), rowTokens: rows.map(({ ids }) => ids.length) };
  }

  #row(index: number, bytes: Uint8Array, pair: Uint8Array | undefined, truncate: boolean): TokenRow {
    const { maxTokens } = this.#spec;
    const a = this.#encode('text', index, bytes);
    const b = pair && this.#encode('text_pair', index, pair);
    const count = a.length + (b?.length ?? 0) + this.#template.added(b !== undefined);
    if (count > maxTokens && !truncate)
      throw invalid(`text ${index} has ${count} tokens, more than the ${maxTokens} that the model takes`);
    return this.#template.row(a, b, maxTokens);
  }

  #encode(kind: 'text' | 'text_pair', index: number, bytes: Uint8Array): number[] {
    if (bytes.length === 0) throw invalid(`${kind} ${index} is empty`);
    let text: string;
    try {
      text = utf8.decode(bytes);
    } catch {
      throw invalid(`${kind} ${index} of ${bytes.length} bytes is not valid UTF-8`);
    }
    const ids = this.#tokenizer.encode(text);
    if (ids.length === 0) throw invalid(`${kind} ${index} gives no tokens: '${printable(text, 40)}'`);
    if (ids.includes(undefined))
      throw invalid(`${kind} ${index} has characters that the model has no tokens for: '${printable(text, 40)}'`);
    return ids as number[];
  }

  /** Nothing tells a model without a mask which tokens are real, so padding would change its answers. */
  #checkPadding(rows: readonly TokenRow[], longest: number): void {
    if (this.#spec.tensors.some(({ role }) => role === 'attention_mask')) return;
    // A model of one length was made with its padding.
    if (this.#spec.fixedTokens !== undefined) return;
    const index = rows.findIndex(({ ids }) => ids.length < longest);
    if (index < 0) return;
    throw invalid(
      `text ${index} has ${rows[index]!.ids.length} tokens and another of the request ${longest}, but the model has no attention_mask to tell padding by: send them in requests of their own`,
    );
  }

  #checkSize(rows: number, longest: number): void {
    const bytes = rows * longest * this.#spec.tensors.length * BigInt64Array.BYTES_PER_ELEMENT;
    if (bytes <= MAX_TENSOR_BYTES) return;
    throw new ServeError(
      'RESOURCE_EXHAUSTED',
      `${rows} texts padded to ${longest} tokens take ${bytes} bytes of ${MAX_TENSOR_BYTES}: send fewer in one request`,
    );
  }
}

/** Also called by workers/prompt.ts. Throws INVALID_ARGUMENT for files that make no tokenizer. */
export function loadTokenizer(
  spec: Pick<TextSpec, 'tokenizerJson' | 'tokenizerConfigJson'>,
  addSpecialTokens: boolean,
): { tokenizer: TextTokenizer; template: TokenTemplate } {
  const json = parse(spec.tokenizerJson, 'tokenizer.json');
  const config = parse(spec.tokenizerConfigJson, 'tokenizer_config.json') as { truncation_side?: unknown } | null;
  try {
    const tokenizer = createTokenizer(json);
    const truncationSide = config?.truncation_side === 'left' ? 'left' : 'right';
    return { tokenizer, template: new TokenTemplate(tokenizer.postProcessor, { addSpecialTokens, truncationSide }) };
  } catch (error) {
    throw invalid(`tokenizer.json can't be used: ${printable(messageOf(error), 200)}`);
  }
}

function parse(json: TextSpec['tokenizerJson'], file: string): unknown {
  try {
    // Not a TextDecoder, which takes no shared memory.
    const text =
      typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString();
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw invalid(`${file} is not JSON: ${printable(messageOf(error), 100)}`);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
