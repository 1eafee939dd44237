/**
 * Prompts to token ids: a text, or a conversation that the model's chat template makes a text.
 *
 * Called by workers/preprocess-worker.ts. Owns a tokenizer and a template. Refuses with ServeError what is no text and no conversation, and
 * what gives no tokens; cuts nothing: how many tokens there is room for, the engine knows.
 */
import { invalid, printable } from '#src/base/errors';
import type { ContentElements, Prepared, PromptSpec } from '#src/runtime/preprocess-messages';
import { ChatTemplate, type TemplateNames } from './chat-template.js';
import { elementsOf } from './content-elements.js';
import { loadTokenizer } from './text.js';
import type { TokenTemplate } from './token-template.js';
import type { TextTokenizer } from './tokenizer.js';

type Content = ContentElements<Uint8Array<ArrayBuffer>>;

/** `ignoreBOM`: a byte order mark is a character of the text, as it is for Python's `tokenizers`. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class PromptProcessor {
  readonly #tokenizer: TextTokenizer;
  readonly #template: TokenTemplate;
  readonly #chat: ChatTemplate | undefined;
  /** The same one where there is no other. */
  readonly #chatWithTools: ChatTemplate | undefined;

  /** Throws INVALID_ARGUMENT for files that make no tokenizer and for a template that is none. */
  constructor(spec: PromptSpec) {
    const { tokenizer, template } = loadTokenizer(spec, true);
    this.#tokenizer = tokenizer;
    this.#template = template;
    const { chatTemplate, toolTemplate, templateTokens: tokens, templateMs: limitMs } = spec;
    const templateOf = (source: string) => new ChatTemplate(source, { tokens, limitMs });
    this.#chat = chatTemplate === undefined ? undefined : templateOf(chatTemplate);
    this.#chatWithTools = toolTemplate === undefined ? this.#chat : templateOf(toolTemplate);
  }

  /** One element of kind `prompt`, `prompt_bare` or `chat`; gives one tensor '' INT32 [tokens]. */
  prepare(content: Content): Prepared {
    const elements = elementsOf(content);
    if (elements.length !== 1) throw invalid(`a request has one prompt, got ${elements.length}`);
    const text = textOf(elements[0]!, content.kind);
    const ids =
      content.kind === 'chat' ? this.#tokenizer.encode(this.#conversation(text)) : this.#encode(text, content);
    const isChat = content.kind === 'chat';
    // The JSON of a conversation is not what its sender wrote.
    const what = isChat ? 'the conversation' : 'the prompt';
    const which = isChat ? '' : `: '${printable(text, 40)}'`;
    if (ids.length === 0)
      throw invalid(`${what} gives no tokens${isChat ? ': its chat template made no text of it' : which}`);
    if (ids.includes(undefined)) throw invalid(`${what} has characters that the model has no tokens for${which}`);
    const data = new Uint8Array(Int32Array.from(ids as number[]).buffer);
    return { tensors: [{ name: '', datatype: 'INT32', dims: [ids.length], data }], rowTokens: [ids.length] };
  }

  #encode(text: string, { kind }: Content): (number | undefined)[] {
    const ids = this.#tokenizer.encode(text);
    if (kind === 'prompt_bare' || ids.includes(undefined)) return ids;
    return [...this.#template.row(ids as number[], undefined, Number.POSITIVE_INFINITY).ids];
  }

  #conversation(json: string): string {
    const names = templateNames(json);
    const chat = names.tools == null ? this.#chat : this.#chatWithTools;
    if (!chat) throw invalid('the model takes no conversations: it has no chat template');
    return chat.render(names, json.length);
  }
}

function textOf(bytes: Uint8Array, kind: Content['kind']): string {
  const what = kind === 'chat' ? 'conversation' : 'prompt';
  if (bytes.length === 0) throw invalid(`the ${what} is empty`);
  try {
    return utf8.decode(bytes);
  } catch {
    throw invalid(`the ${what} of ${bytes.length} bytes is not valid UTF-8`);
  }
}

function templateNames(json: string): TemplateNames {
  let names: unknown;
  try {
    names = JSON.parse(json);
  } catch (error) {
    throw invalid(`the conversation is not JSON: ${printable((error as Error).message, 100)}`);
  }
  if (!isObject(names)) throw invalid('the conversation is not a JSON object');
  const { messages } = names;
  if (!Array.isArray(messages)) throw invalid('the conversation has no list of messages');
  if (messages.length === 0) throw invalid('the conversation has no messages');
  const wrong = messages.findIndex((message) => !isObject(message));
  if (wrong >= 0) throw invalid(`message ${wrong} of the conversation is not a JSON object`);
  return names;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
