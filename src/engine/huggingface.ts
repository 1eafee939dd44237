/**
 * Hugging Face's own files in a model's folder: finds them and reads them into what serving needs.
 *
 *   config.json  tokenizer.json  tokenizer_config.json  special_tokens_map.json  preprocessor_config.json  processor_config.json
 *   modules.json  sentence_bert_config.json  1_Pooling/config.json
 *
 * Called by the loader before the session is made, since pooling is part of the session. Must not know the ONNX model: huggingface-match.ts
 * brings the two together; nor what generates text: huggingface-generation.ts reads those folders. Everything that throws throws a
 * ServeError naming the file.
 */
import { join } from 'node:path';
import { ServeError } from '../base/errors.js';
import type { PoolingSpec } from '../runtime/messages.js';
import { type HubConfig, NO_CONFIG, parseHubConfig } from './huggingface-config.js';
import { FILE_BYTES_MAX, HubFiles, TOKENIZER_BYTES_MAX } from './huggingface-files.js';
import { type HubImage, parseImage } from './huggingface-image.js';
import { JsonFields } from './huggingface-json.js';
import { parseModules, parsePooling } from './huggingface-pooling.js';
import { type HubTokenizer, parseTokenizer } from './huggingface-tokenizer.js';
import type { RepositoryEntry } from './repository.js';
import { checkInside } from './repository-file.js';

export interface HubFolder {
  readonly config: HubConfig;
  readonly tokenizer: HubTokenizer | undefined;
  readonly image: HubImage | undefined;
  /** Undefined where there is no modules.json. */
  readonly modules: HubModules | undefined;
}

export interface HubModules {
  /** Undefined where `problem` says why. */
  readonly pooling: PoolingSpec | undefined;
  readonly problem: string;
}

/** What the files beside and above `onnxPath` say; nothing where there are none. */
export async function readHubFolder(entry: RepositoryEntry, onnxPath: string): Promise<HubFolder> {
  const folder = new HubFiles(entry, onnxPath);
  const modules = await readModules(folder, entry);
  const configFile = await folder.fields('config.json');
  const config = configFile ? parseHubConfig(configFile) : NO_CONFIG;
  return { config, tokenizer: await readTokenizer(folder, config), image: await readImage(folder), modules };
}

async function readModules(folder: HubFiles, entry: RepositoryEntry): Promise<HubModules | undefined> {
  const file = await folder.find('modules.json', FILE_BYTES_MAX);
  if (!file) return undefined;
  const modules = parseModules(JsonFields.parseList(file.subject, file.bytes));
  // Older versions put tokenizer and configuration into a folder of the first module.
  if (modules.transformerPath !== '') checkInside(modules.transformerPath, entry, "'path' in modules.json");
  folder.addBelow(modules.transformerPath);
  if (modules.problem !== '') return { pooling: undefined, problem: modules.problem };
  const name = join(file.directory, modules.poolingPath!, 'config.json');
  const pooling = await folder.read(name, FILE_BYTES_MAX, "'path' in modules.json");
  if (!pooling) {
    throw new ServeError(
      'NOT_FOUND',
      `unable to find ${folder.subject(name)}, which its modules.json has a Pooling module in`,
    );
  }
  const modes = parsePooling(JsonFields.parse(folder.subject(name), pooling));
  return { pooling: { modes, normalize: modules.normalize }, problem: '' };
}

async function readTokenizer(folder: HubFiles, config: HubConfig): Promise<HubTokenizer | undefined> {
  const tokenizer = await folder.find('tokenizer.json', TOKENIZER_BYTES_MAX);
  if (!tokenizer) return undefined;
  const settings = await folder.find('tokenizer_config.json', FILE_BYTES_MAX);
  return parseTokenizer(tokenizer, {
    tokenizerConfig: settings && JsonFields.parse(settings.subject, settings.bytes),
    tokenizerConfigJson: settings ? new TextDecoder().decode(settings.bytes) : '{}',
    specialTokens: await folder.fields('special_tokens_map.json'),
    sentenceBert: await folder.fields('sentence_bert_config.json'),
    config,
  });
}

async function readImage(folder: HubFiles): Promise<HubImage | undefined> {
  const file = await folder.fields('preprocessor_config.json');
  // Newer versions keep the settings of all of a model's processors in one file.
  const fields = file ?? (await folder.fields('processor_config.json'))?.object('image_processor');
  return fields && parseImage(fields);
}
