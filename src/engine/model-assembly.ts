/**
 * Puts a version of a model together once its first session has told its tensors: configuration completed, texts and pictures matched
 * with inputs, queue, policy.
 *
 * Called by the model loader. Owns nothing that would have to be undone: no session, no processor. Throws ServeError.
 */
import { type Datatype, datatypeOfOrt } from '../base/datatype.js';
import { ServeError } from '../base/errors.js';
import type { SessionMetadata, SessionTensor } from '../runtime/messages.js';
import type { BatchPolicy } from './batcher.js';
import { ComputeTimes } from './compute-times.js';
import type { HubFolder } from './huggingface.js';
import { defaultMaxBatchSize, hubParts } from './huggingface-model.js';
import { inOrderOfUse } from './huggingface-outputs.js';
import type { Model } from './model.js';
import { completeModelConfig } from './model-complete.js';
import type { InputConfig, ModelConfig, OnnxTensor, TensorConfig } from './model-config.js';
import { withContents, withoutContents } from './model-config-contents.js';
import type { RawConfig } from './model-config-raw.js';
import type { RepositoryEntry } from './repository.js';
import { readLabels } from './repository-file.js';
import { RequestQueue } from './request-queue.js';
import type { Statistics } from './statistics.js';
import type { TensorSpec } from './tensor-spec.js';

/** Of a model's queue, where its configuration does not say. */
export interface QueueBounds {
  readonly defaultMaxQueueSize: number;
  readonly defaultMaxQueueBytes: number;
}

export interface AssemblyOptions extends QueueBounds {
  readonly autoComplete: boolean;
  readonly defaultMaxBatchSize: number;
  readonly defaultInstanceCount: number;
  /** Width times height of a picture. */
  readonly maxImagePixels: number;
}

export interface Parts {
  readonly entry: RepositoryEntry;
  readonly raw: RawConfig;
  readonly version: number;
  readonly folder: HubFolder;
  readonly session: number;
  readonly metadata: SessionMetadata;
  readonly integerDivision: boolean;
  readonly statistics: Statistics;
}

/** The model without a worker and without a processor, and what the log should say of it. */
export async function assembleModel(
  { entry, raw, version, folder, session, metadata, integerDivision, statistics }: Parts,
  options: AssemblyOptions,
): Promise<{ model: Model; notes: readonly string[] }> {
  const onnxInputs = metadata.inputs.map(onnxTensor);
  const bare = completeModelConfig(
    withoutContents(raw, onnxInputs),
    { inputs: onnxInputs, outputs: inOrderOfUse(folder, metadata.outputs.map(onnxTensor)) },
    {
      modelName: entry.name,
      autoComplete: options.autoComplete,
      defaultMaxBatchSize: defaultMaxBatchSize(folder, onnxInputs, options.defaultMaxBatchSize),
      defaultInstanceCount: options.defaultInstanceCount,
    },
  );
  const batching = bare.maxBatchSize > 0;
  const inputs = bare.inputs.map((tensor) => tensorSpec(tensor, metadata.inputs, batching));
  const outputs = bare.outputs.map((tensor) => tensorSpec(tensor, metadata.outputs, batching));
  const { notes, ...parts } = hubParts(
    folder,
    { inputs, outputs, batching },
    {
      labels: await labelsOf(entry, bare),
      outputsListed: (raw.output?.length ?? 0) > 0,
      maxImagePixels: options.maxImagePixels,
    },
  );
  const config = withContents(bare, parts.contents);
  const model: Model = {
    name: entry.name,
    version: String(version),
    config,
    session,
    workers: new Set(),
    inputs,
    outputs,
    inputPositions: positions(inputs),
    outputPositions: positions(outputs),
    batching,
    policy: batchPolicy(config),
    queue: requestQueue(config, options),
    statistics,
    ...parts,
    processorId: -1,
    generation: undefined,
    generationProblem: '',
    computeTimes: new ComputeTimes(),
    plans: new Map(),
    integerDivision,
    admitting: 0,
    outputsUnpredictable: false,
  };
  return { model, notes };
}

/** Class names by output position, from the files that the configuration names. */
function labelsOf(entry: RepositoryEntry, { outputs }: ModelConfig): Promise<(readonly string[] | undefined)[]> {
  return Promise.all(
    outputs.map(({ labelFilename }) => (labelFilename === '' ? undefined : readLabels(entry, labelFilename))),
  );
}

export function requestQueue({ dynamicBatching }: ModelConfig, options: QueueBounds): RequestQueue {
  const { defaultMaxQueueSize, defaultMaxQueueBytes } = options;
  const levels = Math.max(1, dynamicBatching?.priorityLevels ?? 1);
  const maxCount = (level: number) => {
    const policy = dynamicBatching?.priorityQueuePolicy.get(level) ?? dynamicBatching?.defaultQueuePolicy;
    return policy?.maxQueueSize || defaultMaxQueueSize;
  };
  return new RequestQueue({ maxCount, maxBytes: defaultMaxQueueBytes }, levels);
}

export function batchPolicy({ maxBatchSize, dynamicBatching }: ModelConfig): BatchPolicy {
  const policies = dynamicBatching
    ? [dynamicBatching.defaultQueuePolicy, ...dynamicBatching.priorityQueuePolicy.values()]
    : [];
  const ruled = policies.some(
    (policy) => policy.maxQueueSize > 0 || policy.defaultTimeoutUs > 0 || policy.allowTimeoutOverride,
  );
  return {
    maxBatchSize: Math.max(1, maxBatchSize),
    dynamic: maxBatchSize > 0 && dynamicBatching !== undefined,
    preferredBatchSizes: dynamicBatching?.preferredBatchSizes ?? [],
    maxQueueDelayMs: (dynamicBatching?.maxQueueDelayUs ?? 0) / 1e3,
    mayPrepare: !ruled && (dynamicBatching?.priorityLevels ?? 0) <= 1,
  };
}

function onnxTensor({ name, ortType, dims }: SessionTensor): OnnxTensor {
  return { name, ortType, dims, datatype: datatypeOfOrt(ortType) };
}

function tensorSpec(
  tensor: TensorConfig & Partial<InputConfig>,
  session: readonly SessionTensor[],
  batching: boolean,
): TensorSpec {
  const index = session.findIndex(({ name }) => name === tensor.name);
  if (index < 0)
    throw new ServeError('INTERNAL', `tensor '${tensor.name}' passed validation but the session has none of that name`);
  return {
    name: tensor.name,
    datatype: tensor.datatype satisfies Datatype,
    dims: tensor.dims,
    reshape: tensor.reshape,
    onnxDims: batching ? session[index]!.dims.slice(1) : session[index]!.dims,
    index,
    optional: tensor.optional ?? false,
  };
}

function positions(specs: readonly TensorSpec[]): ReadonlyMap<string, number> {
  return new Map(specs.map(({ name }, position) => [name, position]));
}
