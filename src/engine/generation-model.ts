/**
 * Puts a model that generates text together: what it is beside an ordinary one, and what all models are.
 *
 * Called by the generation loader. Pure. It has no session on the inference workers, so queue, policy and plans stay empty.
 */

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
    computeTimes: new ComputeTimes(),
    plans: new Map(),
    integerDivision: false,
    admitting: 0,
    outputsUnpredictable: false,
  };
}

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
