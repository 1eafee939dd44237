/**
 * What clients are told of a model that generates text: the tensors of Triton's language model backends in place of the decoder's own.
 *
 * Called by the generation loader. Owns the names, datatypes and shapes of these tensors; generation-request.ts and generation-responder.ts read and write them. Pure.
 * Throws INVALID_ARGUMENT for a configuration that can't hold for such a model.
 */
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { invalid, printable } from '../base/errors.js';
import { completeModelConfig } from './model-complete.js';
import type { ModelConfig, OnnxTensor } from './model-config.js';
import type { RawConfig, RawTensor } from './model-config-raw.js';
import { parametersOf } from './model-config-session.js';

interface Tensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly dims: readonly number[];
  readonly optional: boolean;
}

const given = (name: string, datatype: Datatype, optional = true): Tensor => ({ name, datatype, dims: [1], optional });
const made = (name: string, datatype: Datatype): Tensor => ({ name, datatype, dims: [-1], optional: false });

export const GENERATION_INPUTS: readonly Tensor[] = [
  given('text_input', 'BYTES', false),
  given('stream', 'BOOL'),
  given('sampling_parameters', 'BYTES'),
  given('exclude_input_in_output', 'BOOL'),
  given('return_finish_reason', 'BOOL'),
  given('return_cumulative_logprob', 'BOOL'),
  given('return_logprobs', 'BOOL'),
  given('return_num_input_tokens', 'BOOL'),
  given('return_num_output_tokens', 'BOOL'),
  given('max_tokens', 'INT32'),
];

export const GENERATION_OUTPUTS: readonly Tensor[] = [
  made('text_output', 'BYTES'),
  made('finish_reason', 'BYTES'),
  made('cumulative_logprob', 'FP32'),
  made('logprobs', 'BYTES'),
  made('num_input_tokens', 'UINT32'),
  made('num_output_tokens', 'UINT32'),
];

/** What config.pbtxt says in `parameters` in place of the server's options; 0 where it is silent. */
export interface GenerationSettings {
  /** Streams that run together. */
  readonly maxSequences: number;
  readonly kvCacheBytes: number;
  readonly prefixCacheBytes: number;
  /** Tokens of prompt and text together; 0 = as many as the model can. */
  readonly maxSequenceLength: number;
}

/** `defaults` with what the model's own configuration says. Throws INVALID_ARGUMENT. */
export function generationSettings(raw: RawConfig, model: string, defaults: GenerationSettings): GenerationSettings {
  const parameters = parametersOf(raw);
  const read = (key: string, fallback: number, least: number, most: number): number => {
    const value = parameters.get(key);
    if (value === undefined) return fallback;
    const number = Number(value);
    if (/^\s*\d+\s*$/.test(value) && number >= least && number <= most) return number;
    throw invalid(
      `failed to convert ${key} '${printable(value)}' to integral number in range [${least}, ${most}] for ${printable(model, 256)}`,
    );
  };
  return {
    maxSequences: read('max_sequences', defaults.maxSequences, 1, MAX_SEQUENCES),
    kvCacheBytes: read('kv_cache_byte_size', defaults.kvCacheBytes, 1, Number.MAX_SAFE_INTEGER),
    prefixCacheBytes: read('prefix_cache_byte_size', defaults.prefixCacheBytes, 0, Number.MAX_SAFE_INTEGER),
    maxSequenceLength: read('max_sequence_length', defaults.maxSequenceLength, 0, 2 ** 31 - 1),
  };
}

/** A row of logits is some hundred kilobytes: more of them at once are no gain any more. */
export const MAX_SEQUENCES = 256;

/** `raw` as a whole configuration; `filename` is the ONNX file as clients are told of it. */
export function generationConfig(raw: RawConfig, modelName: string, filename: string): ModelConfig {
  const model = printable(modelName, 256);
  checkListed(raw.input ?? [], GENERATION_INPUTS, 'input', model);
  checkListed(raw.output ?? [], GENERATION_OUTPUTS, 'output', model);
  if ((raw.max_batch_size ?? 0) > 0 || raw.dynamic_batching !== undefined) {
    throw invalid(
      `max_batch_size and dynamic_batching are not for ${model}, which generates text: its requests run together as they come, ` +
        "up to the parameter 'max_sequences'",
    );
  }
  if (raw.model_warmup?.length) throw invalid(`model_warmup not supported for ${model}, which generates text`);
  return completeModelConfig(
    {
      ...raw,
      max_batch_size: 0,
      default_model_filename: filename,
      model_transaction_policy: { decoupled: true },
      input: GENERATION_INPUTS.map(rawTensor),
      output: GENERATION_OUTPUTS.map(rawTensor),
    },
    { inputs: GENERATION_INPUTS.map(onnxTensor), outputs: GENERATION_OUTPUTS.map(onnxTensor) },
    { modelName, autoComplete: true, defaultMaxBatchSize: 0 },
  );
}

/** Those that it lists must be of the contract, in any number and order: a completed configuration may have been copied. */
function checkListed(listed: readonly RawTensor[], contract: readonly Tensor[], kind: string, model: string): void {
  for (const { name = '', data_type, dims } of listed) {
    const tensor = contract.find((known) => known.name === name);
    if (tensor && data_type === DATATYPES[tensor.datatype].configName && dims?.join() === tensor.dims.join()) continue;
    const what = tensor
      ? `is ${DATATYPES[tensor.datatype].configName} [${tensor.dims}], not ${data_type ?? 'nothing'} [${dims ?? ''}]`
      : `is none of ${contract.map((known) => known.name).join(', ')}`;
    throw invalid(
      `${kind} '${printable(name, 128)}' ${what}: ${model} generates text, leave its inputs and outputs out of config.pbtxt`,
    );
  }
}

function rawTensor({ name, datatype, dims, optional }: Tensor): RawTensor {
  return { name, data_type: DATATYPES[datatype].configName, dims, ...(optional && { optional }) };
}

function onnxTensor({ name, datatype, dims, optional }: Tensor): OnnxTensor {
  return { name, datatype, ortType: '', dims: dims.map((dim) => (dim < 0 ? '' : dim)), hasDefault: optional };
}
