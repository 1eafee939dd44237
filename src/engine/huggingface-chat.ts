/**
 * A model's chat template and the tokens that it names: how a conversation becomes one text.
 *
 *   chat_template.jinja, else chat_template.json, else chat_template in tokenizer_config.json
 *
 * Called by huggingface-generation.ts. Must not run a template: the preprocess workers do. Everything that throws throws INVALID_ARGUMENT
 * naming the file.
 */
import { isUtf8 } from 'node:buffer';
import { invalid } from '../base/errors.js';
import type { HubFiles } from './huggingface-files.js';
import type { JsonFields } from './huggingface-json.js';
import { tokenOf } from './huggingface-tokenizer.js';

export interface ChatTemplate {
  /** Jinja; undefined where `problem` says why there is none. */
  readonly template: string | undefined;
  /** Why the model takes no conversations; '' where it does. */
  readonly problem: string;
}

export async function readChatTemplate(
  files: HubFiles,
  tokenizerConfig: JsonFields | undefined,
): Promise<ChatTemplate> {
  const jinja = await files.find('chat_template.jinja');
  if (jinja) {
    if (!isUtf8(jinja.bytes)) throw invalid(`${jinja.subject} is not valid UTF-8`);
    return { template: new TextDecoder().decode(jinja.bytes), problem: '' };
  }
  const file = (await files.fields('chat_template.json')) ?? tokenizerConfig;
  const template = file && templateOf(file);
  if (template !== undefined) return { template, problem: '' };
  return {
    template: undefined,
    problem: file?.has('chat_template')
      ? "none of its chat templates is called 'default'"
      : 'its folder has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)',
  };
}

/** Of several that have names it is the default one, or the only one. */
function templateOf(file: JsonFields): string | undefined {
  if (!file.isList('chat_template')) return file.string('chat_template');
  const named = file.objects('chat_template')!;
  const chosen =
    named.find((template) => template.string('name') === 'default') ?? (named.length === 1 ? named[0] : undefined);
  return chosen?.string('template');
}

/** Tokens by the names that templates use: `bos_token`, `eos_token`, ... */
export function templateTokens(...files: readonly (JsonFields | undefined)[]): Record<string, string> {
  const tokens: Record<string, string> = {};
  // The file named first goes before the others.
  for (const file of [...files].reverse()) {
    for (const name of file?.keys() ?? []) {
      if (!/^[a-z_]+_token$/.test(name) || !(file!.isString(name) || file!.isObject(name))) continue;
      const token = tokenOf(file, name);
      if (token !== undefined) tokens[name] = token;
    }
  }
  return tokens;
}
