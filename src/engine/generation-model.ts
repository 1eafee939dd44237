/**
 * Puts a model that generates text together: what it is beside an ordinary one, and what all models are.
 *
 * Called by the generation loader. Pure. It has no session on the inference workers, so queue, policy and plans stay empty.
 */

import { invalid } from '../base/errors.js';
import type { GenerationSpec } from '../runtime/generation-messages.js';
import type { ProcessorSpec } from '../runtime/preprocess-messages.js';
import { ComputeTimes } from './compute-times.js';
import type { Generation } from './generation.js';
import type { Model } from './model.js';
import { batchPolicy, type QueueBounds, requestQueue } from './model-assembly.js';
import type { ModelConfig, TensorConfig } from './model-config.js';
import type { Statistics } from './statistics.js';
import type { TensorSpec } from './tensor-spec.js';

export interface GenerationModelParts {
  readonly version: number;
  readonly config: ModelConfig;
  readonly generation: Generation;
  readonly processor: ProcessorSpec;
  readonly processorId: number;
  readonly statistics: Statistics;
}

export function generationModel(parts: GenerationModelParts, bounds: QueueBounds): Model {
  const { config, generation } = parts;
  const { spec, loaded, chatProblem } = generation;
  const inputs = config.inputs.map(tensorSpec);
  const outputs = config.outputs.map(tensorSpec);
  return {
    name: config.name,
    version: String(parts.version),
    config,
    session: -1,
    workers: new Set(),
    inputs,
    outputs,
    inputPositions: new Map(inputs.map(({ name }, position) => [name, position])),
    outputPositions: new Map(outputs.map(({ name }, position) => [name, position])),
    batching: false,
    policy: batchPolicy(config),
    queue: requestQueue(config, bounds),
    statistics: parts.statistics,
    contents: [],
    processor: parts.processor,
    processorId: parts.processorId,
    padding: inputs.map(() => undefined),
    // The text; what else there is has to be asked for.
    defaultOutputs: [0],
    labels: outputs.map(() => undefined),
    content: {
      inputs: [],
      embeddingOutput: undefined,
      embeddingProblem: 'it generates text',
      isMatryoshka: false,
      generation: { contextLength: spec.contextLength, vocabularySize: loaded.vocabularySize, chatProblem },
    },
    generation,
    generationProblem: '',
    computeTimes: new ComputeTimes(),
    plans: new Map(),
    integerDivision: false,
    admitting: 0,
    outputsUnpredictable: false,
  };
}

/**
 * Tokens of the longest sequence that the cache of keys and values can hold alone: the worker takes room for 32, 64, 96, 128, 192, ... of
 * them, three steps to each two doublings. A request that says no `max_tokens` asks for the whole context, and must not ask for more
 * than there can ever be. Throws INVALID_ARGUMENT where there is not even room for the first step.
 */
export function usableContext(
  { contextLength, kvCacheBytes }: Pick<GenerationSpec, 'contextLength' | 'kvCacheBytes'>,
  kvBytesPerToken: number,
): number {
  const most = Math.floor(kvCacheBytes / kvBytesPerToken);
  if (most >= contextLength) return contextLength;
  if (most < FIRST_STEP) {
    throw invalid(
      `kv_cache_byte_size ${kvCacheBytes} has room for ${most} tokens of ${kvBytesPerToken} bytes each, at least ${FIRST_STEP} are needed`,
    );
  }
  const doubled = FIRST_STEP * 2 ** Math.floor(Math.log2(most / FIRST_STEP));
  return doubled > FIRST_STEP && most >= doubled * 1.5 ? doubled * 1.5 : doubled;
}

const FIRST_STEP = 32;

function tensorSpec(tensor: TensorConfig & { readonly optional?: boolean }, index: number): TensorSpec {
  const { name, datatype, dims, optional = false } = tensor;
  return {
    name,
    datatype,
    dims,
    reshape: undefined,
    onnxDims: dims.map((dim) => (dim < 0 ? '' : dim)),
    index,
    optional,
  };
}
