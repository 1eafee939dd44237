/**
 * The inputs for texts and pictures in what clients are told of a model: in front of the raw ones, which they make optional.
 *
 * Called by model-assembly.ts when the configuration is complete. Pure. The session's own inputs stay what they are.
 */
import type { ContentInput } from './model.js';
import type { ModelConfig } from './model-config.js';
import type { RawTensor } from './model-config-raw.js';

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
