/**
 * A model's chat template and the tokens that it names: how a conversation becomes one text.
 *
 *   chat_template.jinja, else chat_template.json, else chat_template in tokenizer_config.json
 *   additional_chat_templates/tool_use.jinja, or the one of that name in those files: for conversations with tools
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
  /** In its place where a request brings tools; undefined where there is only one. */
  readonly toolTemplate: string | undefined;
  /** Why the model takes no conversations; '' where it does. */
  readonly problem: string;
}

/** What transformers calls the template that it takes where there are tools. */
const WITH_TOOLS = 'tool_use';

export async function readChatTemplate(
  files: HubFiles,
  tokenizerConfig: JsonFields | undefined,
): Promise<ChatTemplate> {
  const jinja = await jinjaFile(files, 'chat_template.jinja');
  if (jinja !== undefined) {
    const toolTemplate = await jinjaFile(files, `additional_chat_templates/${WITH_TOOLS}.jinja`);
    return { template: jinja, toolTemplate, problem: '' };
  }
  const file = (await files.fields('chat_template.json')) ?? tokenizerConfig;
  const { template, toolTemplate } = templatesOf(file);
  if (template !== undefined) return { template, toolTemplate, problem: '' };
  return {
    template,
    toolTemplate: undefined,
    problem: file?.has('chat_template')
      ? "none of its chat templates is called 'default'"
      : 'its folder has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)',
  };
}

async function jinjaFile(files: HubFiles, name: string): Promise<string | undefined> {
  const file = await files.find(name);
  if (file && !isUtf8(file.bytes)) throw invalid(`${file.subject} is not valid UTF-8`);
  return file && new TextDecoder().decode(file.bytes);
}

/** Of several that have names it is the default one, or the only one. */
function templatesOf(file: JsonFields | undefined): Pick<ChatTemplate, 'template' | 'toolTemplate'> {
  const named = file && namedTemplates(file);
  if (!named) return { template: file?.string('chat_template'), toolTemplate: undefined };
  const only = named.size === 1 ? [...named.values()][0] : undefined;
  return { template: named.get('default') ?? only, toolTemplate: named.get(WITH_TOOLS) };
}

/** Written as a list of objects, or as one object by name; undefined where there is one without a name. */
function namedTemplates(file: JsonFields): Map<string, string | undefined> | undefined {
  if (file.isList('chat_template')) {
    const list = file.objects('chat_template')!;
    return new Map(list.map((item) => [item.string('name') ?? '', item.string('template')]));
  }
  if (!file.isObject('chat_template')) return undefined;
  const byName = file.object('chat_template')!;
  return new Map(byName.keys().map((name) => [name, byName.string(name)]));
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
