/**
 * The files of a model that generates text, read into what serving it needs.
 *
 *   config.json  generation_config.json  genai_config.json  tokenizer.json  tokenizer_config.json  special_tokens_map.json
 *   chat_template.jinja  chat_template.json  additional_chat_templates/tool_use.jinja
 *
 * Called by the generation loader. Must not know the ONNX file: what its tensors are, the token-stream worker finds out. Everything that
 * throws throws a ServeError naming the file.
 */
import { ServeError } from '../base/errors.js';
import type { DecoderNames } from '../runtime/generation-messages.js';
import type { PromptSpec } from '../runtime/preprocess-messages.js';
import type { GenerationDefaults } from './generation.js';
import { readChatTemplate, templateTokens } from './huggingface-chat.js';
import { decoderNames } from './huggingface-decoder.js';
import { type HubFiles, TOKENIZER_BYTES_MAX } from './huggingface-files.js';
import { type GenaiConfig, parseGenai } from './huggingface-genai.js';
import { JsonFields } from './huggingface-json.js';
import { samplingDefaults, tokenIds } from './huggingface-sampling.js';
import { limit, shared, type TokenizerParts, tokenId, tokenizerParts, tokenOf } from './huggingface-tokenizer.js';

export interface GenerationFolder {
  readonly prompt: PromptSpec;
  readonly modelType: string;
  readonly names: DecoderNames;
  readonly contextLength: number;
  /** Infinity where every token sees all before it. */
  readonly slidingWindow: number;
  /** Undefined where no file says it. */
  readonly headSize: number | undefined;
  readonly defaults: GenerationDefaults;
  /** Why it takes no conversations; '' where it does. */
  readonly chatProblem: string;
  /** For the log. */
  readonly notes: readonly string[];
}

/** Where no file names a length. */
const CONTEXT_LENGTH = 2048;

/** What the context's length is called, by family. Several in one file are said by conversions: the smallest holds for all. */
const LENGTH_FIELDS = ['max_position_embeddings', 'n_positions', 'n_ctx', 'max_seq_len', 'seq_length'] as const;

/** A conversation of thousands of messages takes a template some tens of milliseconds. */
const TEMPLATE_MS = 1000;

/** `longest`: a context that the operator sets, 0 = the model's own. */
export async function readGenerationFolder(files: HubFiles, longest: number): Promise<GenerationFolder> {
  const config = await files.fields('config.json');
  // A model for pictures and text says what holds for text in a part of its own.
  const text = config?.object('text_config');
  const configs = [config, text].filter((file) => file !== undefined);
  const genaiFile = await files.fields('genai_config.json');
  const genai = genaiFile && parseGenai(genaiFile);
  const generation = await files.fields('generation_config.json');
  const { parts, bytes, tokenizerConfig, tokenizerConfigJson, specialTokens } = await readTokenizer(files);
  const lengths = [
    ...configs.flatMap((file) => LENGTH_FIELDS.map((field) => length(file, field))),
    genai?.contextLength,
    limit(tokenizerConfig, 'model_max_length'),
    longest > 0 ? longest : undefined,
  ].filter((value) => value !== undefined);
  const contextLength = lengths.length > 0 ? Math.min(...lengths) : CONTEXT_LENGTH;
  const window = Math.min(...configs.map(slidingWindow), genai?.slidingWindow ?? Number.POSITIVE_INFINITY);
  const { notes, ...sampling } = samplingDefaults(generation ?? genai?.search, contextLength);
  const { template, toolTemplate, problem } = await readChatTemplate(files, tokenizerConfig);
  return {
    prompt: {
      tokenizerJson: shared(bytes),
      tokenizerConfigJson,
      chatTemplate: template,
      ...(toolTemplate !== undefined && { toolTemplate }),
      templateTokens: templateTokens(tokenizerConfig, specialTokens),
      templateMs: TEMPLATE_MS,
    },
    modelType: config?.string('model_type') ?? genai?.modelType ?? '',
    names: await decoderNames(files),
    contextLength,
    slidingWindow: window < contextLength ? window : Number.POSITIVE_INFINITY,
    headSize: genai?.headSize ?? configs.map(headSize).find((size) => size !== undefined),
    defaults: {
      ...sampling,
      eosTokenIds: eosTokenIds([generation, ...configs], genai, parts, [tokenizerConfig, specialTokens]),
    },
    chatProblem: problem,
    notes,
  };
}

async function readTokenizer(files: HubFiles) {
  const file = await files.find('tokenizer.json', TOKENIZER_BYTES_MAX);
  if (!file)
    throw new ServeError('NOT_FOUND', `unable to find ${files.subject('tokenizer.json')}, which generates text`);
  const settings = await files.find('tokenizer_config.json');
  return {
    parts: await tokenizerParts(file),
    bytes: file.bytes,
    tokenizerConfig: settings && JsonFields.parse(settings.subject, settings.bytes),
    tokenizerConfigJson: settings ? new TextDecoder().decode(settings.bytes) : '{}',
    specialTokens: await files.fields('special_tokens_map.json'),
  };
}

/** Undefined for -1 and 0, which is how some say that there is no such number. */
function length(file: JsonFields, field: string): number | undefined {
  const value = file.isNumber(field) ? file.number(field)! : 0;
  return value > 0 ? file.integer(field, 1) : undefined;
}

function headSize(config: JsonFields): number | undefined {
  const own = length(config, 'head_dim');
  if (own !== undefined) return own;
  const [width, heads] = [length(config, 'hidden_size'), length(config, 'num_attention_heads')];
  return width !== undefined && heads !== undefined && width % heads === 0 ? width / heads : undefined;
}

/** The window of those layers that have one; Infinity where none has. */
function slidingWindow(config: JsonFields): number {
  // Qwen2 names a window and does not use it.
  if (config.boolean('use_sliding_window') === false) return Number.POSITIVE_INFINITY;
  if (config.isList('layer_types') && !config.strings('layer_types')!.includes('sliding_attention'))
    return Number.POSITIVE_INFINITY;
  const window = length(config, 'sliding_window');
  if (window !== undefined) return window;
  // GPT-Neo's word for it.
  const isLocal = config.isList('attention_layers') && config.strings('attention_layers')!.includes('local');
  return (isLocal ? length(config, 'window_size') : undefined) ?? Number.POSITIVE_INFINITY;
}

/** All that some file calls the end: one that a file forgets goes on talking with itself. */
function eosTokenIds(
  files: readonly (JsonFields | undefined)[],
  genai: GenaiConfig | undefined,
  parts: TokenizerParts,
  tokenizerFiles: readonly (JsonFields | undefined)[],
): number[] {
  const ids = new Set([...files.flatMap((file) => tokenIds(file, 'eos_token_id')), ...(genai?.eosTokenIds ?? [])]);
  const token = tokenizerFiles.map((file) => tokenOf(file, 'eos_token')).find((text) => text !== undefined);
  const id = token === undefined ? undefined : tokenId(parts, token);
  if (id !== undefined) ids.add(id);
  return [...ids];
}
