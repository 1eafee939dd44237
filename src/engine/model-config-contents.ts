/**
 * The inputs for texts and pictures in what clients are told of a model: in front of the raw ones, which they make optional.
 *
 * Called by model-assembly.ts when the configuration is complete. Pure. The session's own inputs stay what they are.
 */
import type { ContentInput } from './model.js';
import type { ModelConfig } from './model-config.js';
import type { RawConfig, RawTensor } from './model-config-raw.js';

/**
 * `raw` as its author may have meant it who copied a completed configuration into config.pbtxt: inputs for contents that are listed are
 * no tensors of the file, and what they make optional is not written so.
 */
export function withoutContents(raw: RawConfig, fileInputs: readonly { readonly name: string }[]): RawConfig {
  const isContent = ({ name = '', data_type, optional }: RawTensor): boolean =>
    optional === true &&
    data_type === 'TYPE_STRING' &&
    CONTENT_NAMES.test(name) &&
    !fileInputs.some((input) => input.name === name);
  if (!raw.input?.some(isContent)) return raw;
  const input = raw.input.filter((listed) => !isContent(listed)).map(({ optional: _, ...listed }) => listed);
  return { ...raw, input };
}

/** As huggingface-match.ts names them. */
const CONTENT_NAMES = /^(text|text_pair|image)(_bytes)?$/;

/** `config` with `contents`, each a BYTES input of one element a row, or of any number where the model does not batch. */
export function withContents(config: ModelConfig, contents: readonly ContentInput[]): ModelConfig {
  if (contents.length === 0) return config;
  const dims = [config.maxBatchSize > 0 ? 1 : -1];
  const made = new Set(contents.flatMap(({ makes }) => makes.map((position) => config.inputs[position]!.name)));
  const input: RawTensor[] = [
    ...contents.map(({ name }) => ({ name, data_type: 'TYPE_STRING', dims, optional: true })),
    ...(config.raw.input ?? []).map((raw) => (made.has(raw.name ?? '') ? { ...raw, optional: true } : raw)),
  ];
  return {
    ...config,
    contents: contents.map(({ name }) => ({ name, datatype: 'BYTES', dims, reshape: undefined })),
    raw: { ...config.raw, input },
  };
}
