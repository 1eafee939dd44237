/**
 * From what a configuration says and what its ONNX file declares to a complete, valid {@link ModelConfig}, as Triton does it.
 *
 * Called by the registry when a version's first session has loaded. Owns the order of the steps: refuse what is not supported,
 * complete (batching, inputs, outputs), validate, normalise. The rules themselves are in the `model-config-*` files.
 */
import { invalid, printable } from '../base/errors.js';
import {
  checkName,
  type DynamicBatching,
  type ModelConfig,
  modelFilename,
  type OnnxTensor,
  type QueuePolicy,
  type VersionPolicy,
} from './model-config.js';
import type { RawConfig, RawDynamicBatching, RawQueuePolicy, RawTensor, RawVersionPolicy } from './model-config-raw.js';
import {
  BACKEND,
  checkDynamicBatching,
  checkInstanceGroups,
  checkMaxBatchSize,
  checkResponseCache,
  checkTensor,
  checkVersionPolicy,
  PLATFORM,
  refuseUnsupported,
} from './model-config-rules.js';
import {
  executionAccelerators,
  graphOptimizationLevel,
  instanceGroups,
  parametersOf,
  sessionSettings,
} from './model-config-session.js';
import { isBatchable, matchInputs, matchOutputs, type TensorContext, tensorFromOnnx } from './model-config-tensors.js';
import { warmups } from './model-config-warmup.js';

export interface OnnxModel {
  readonly inputs: readonly OnnxTensor[];
  readonly outputs: readonly OnnxTensor[];
}

export interface CompleteOptions {
  /** The directory's name. */
  readonly modelName: string;
  /** False: only check and normalise what is written. */
  readonly autoComplete: boolean;
  /** max_batch_size of a model that can batch and does not say; 0 = none. */
  readonly defaultMaxBatchSize: number;
  /** Of an instance group that has no count; 1 when absent. */
  readonly defaultInstanceCount?: number;
}

/** Throws INVALID_ARGUMENT that names the model and what does not hold. Does not change `raw`. */
export function completeModelConfig(raw: RawConfig, onnx: OnnxModel, options: CompleteOptions): ModelConfig {
  const model = printable(options.modelName, 256);
  checkName(raw, options.modelName);
  refuseUnsupported(raw, model);
  checkListed(raw, model);

  const { maxBatchSize, dynamicBatching } = completeBatching(raw, onnx, options);
  if (dynamicBatching !== undefined) checkDynamicBatching(dynamicBatching, maxBatchSize, model);

  const inputContext: TensorContext = { model, kind: 'input', maxBatchSize };
  const outputContext: TensorContext = { model, kind: 'output', maxBatchSize };
  const input = completeTensors(raw.input, onnx.inputs, inputContext, options.autoComplete);
  const output = completeTensors(raw.output, onnx.outputs, outputContext, options.autoComplete);
  const inputs = matchInputs(input, onnx.inputs, inputContext);
  const outputs = matchOutputs(output, onnx.outputs, outputContext);

  const batching = dynamicBatching && normaliseBatching(dynamicBatching, maxBatchSize);
  const groups = instanceGroups(raw, options.modelName, options.defaultInstanceCount ?? 1);
  const versionPolicy = normaliseVersionPolicy(raw.version_policy ?? {});
  const parameters = parametersOf(raw);
  return {
    name: options.modelName,
    platform: PLATFORM,
    backend: BACKEND,
    maxBatchSize,
    inputs,
    outputs,
    contents: [],
    dynamicBatching: batching,
    instanceGroups: groups,
    versionPolicy,
    defaultModelFilename: modelFilename(raw),
    warmup: warmups(raw.model_warmup ?? [], { model, maxBatchSize, inputs }),
    sessionSettings: sessionSettings(parameters, model),
    graphOptimizationLevel: graphOptimizationLevel(raw, model),
    executionAccelerators: executionAccelerators(raw),
    parameters,
    metricTags: raw.metric_tags ?? {},
    responseCache: raw.response_cache?.enable ?? false,
    decoupled: raw.model_transaction_policy?.decoupled ?? false,
    raw: {
      ...raw,
      name: options.modelName,
      platform: PLATFORM,
      backend: BACKEND,
      version_policy: rawVersionPolicy(versionPolicy),
      max_batch_size: maxBatchSize,
      input,
      output,
      instance_group: groups.map((group, index) => ({ ...raw.instance_group?.[index], ...group })),
      default_model_filename: modelFilename(raw),
      ...(batching && {
        dynamic_batching: { ...dynamicBatching, preferred_batch_size: batching.preferredBatchSizes },
      }),
    },
  };
}

/** The rules for what is written, before anything is filled in. */
function checkListed(raw: RawConfig, model: string): void {
  checkMaxBatchSize(raw, model);
  checkVersionPolicy(raw.version_policy ?? {}, model);
  checkInstanceGroups(raw, model);
  checkResponseCache(raw, model);
  for (const kind of ['input', 'output'] as const) {
    const names = new Set<string>();
    for (const tensor of raw[kind] ?? []) {
      checkTensor(tensor, kind, model);
      if (names.has(tensor.name!)) {
        throw invalid(`model ${kind} '${printable(tensor.name!, 128)}' is specified more than once for ${model}`);
      }
      names.add(tensor.name!);
    }
  }
}

/**
 * As in Triton a configuration that lists inputs and outputs is left alone, and one that does not gets batching where the file
 * allows it. Unlike there a written `max_batch_size: 0` is told from an absent one and means no batching, and so do listed
 * tensors with all dimensions of the file.
 */
function completeBatching(
  raw: RawConfig,
  onnx: OnnxModel,
  options: CompleteOptions,
): { maxBatchSize: number; dynamicBatching: RawDynamicBatching | undefined } {
  const written = { maxBatchSize: raw.max_batch_size ?? 0, dynamicBatching: raw.dynamic_batching };
  if (!options.autoComplete || (raw.input?.length && raw.output?.length)) return written;
  const outputs = raw.output?.length ? onnx.outputs.filter((tensor) => named(raw.output, tensor.name)) : onnx.outputs;
  const possible = [...onnx.inputs.filter((tensor) => !tensor.hasDefault), ...outputs].every(
    (tensor) =>
      isBatchable(tensor) && leavesBatchOut(named(raw.input, tensor.name) ?? named(raw.output, tensor.name), tensor),
  );
  const maxBatchSize = raw.max_batch_size ?? (possible ? options.defaultMaxBatchSize : 0);
  // Batches across requests are what Triton turns on too; with 1 there is nothing to join.
  return { maxBatchSize, dynamicBatching: written.dynamicBatching ?? (maxBatchSize > 1 ? {} : undefined) };
}

function named(tensors: readonly RawTensor[] | undefined, name: string): RawTensor | undefined {
  return tensors?.find((tensor) => tensor.name === name);
}

function leavesBatchOut(listed: RawTensor | undefined, tensor: OnnxTensor): boolean {
  if (listed === undefined) return true;
  const dims = listed.reshape === undefined ? (listed.dims ?? []) : (listed.reshape.shape ?? []);
  return dims.length === tensor.dims.length - 1;
}

function completeTensors(
  listed: readonly RawTensor[] | undefined,
  onnx: readonly OnnxTensor[],
  context: TensorContext,
  autoComplete: boolean,
): readonly RawTensor[] {
  if (listed?.length) return listed;
  if (!autoComplete) return [];
  return onnx.filter((tensor) => !tensor.hasDefault).map((tensor) => tensorFromOnnx(tensor, context));
}

function normaliseBatching(raw: RawDynamicBatching, maxBatchSize: number): DynamicBatching {
  const preferred = [...new Set(raw.preferred_batch_size)].sort((a, b) => a - b);
  const whole = maxBatchSize > 0 ? [maxBatchSize] : [];
  const levels = raw.priority_levels ?? 0;
  // Triton ignores policies of levels when there are none.
  const policies = levels > 0 ? Object.entries(raw.priority_queue_policy ?? {}) : [];
  return {
    preferredBatchSizes: preferred.length > 0 ? preferred : whole,
    maxQueueDelayUs: raw.max_queue_delay_microseconds ?? 0,
    preserveOrdering: raw.preserve_ordering ?? false,
    priorityLevels: levels,
    defaultPriorityLevel: levels > 0 ? (raw.default_priority_level ?? 0) : 0,
    defaultQueuePolicy: normaliseQueuePolicy(raw.default_queue_policy ?? {}),
    priorityQueuePolicy: new Map(policies.map(([level, policy]) => [Number(level), normaliseQueuePolicy(policy)])),
  };
}

function normaliseQueuePolicy(raw: RawQueuePolicy): QueuePolicy {
  return {
    timeoutAction: raw.timeout_action === 'DELAY' ? 'DELAY' : 'REJECT',
    defaultTimeoutUs: raw.default_timeout_microseconds ?? 0,
    allowTimeoutOverride: raw.allow_timeout_override ?? false,
    maxQueueSize: raw.max_queue_size ?? 0,
  };
}

/** The policy that decides which versions to load, which must be known before any of them is; checked first. */
export function versionPolicyOf(raw: RawConfig, modelName: string): VersionPolicy {
  checkVersionPolicy(raw.version_policy ?? {}, printable(modelName, 256));
  return normaliseVersionPolicy(raw.version_policy ?? {});
}

function normaliseVersionPolicy(raw: RawVersionPolicy): VersionPolicy {
  if (raw.all !== undefined) return { kind: 'all' };
  if (raw.specific !== undefined) {
    return { kind: 'specific', versions: [...new Set(raw.specific.versions)].sort((a, b) => a - b) };
  }
  return { kind: 'latest', count: raw.latest?.num_versions ?? 1 };
}

function rawVersionPolicy(policy: VersionPolicy): RawVersionPolicy {
  switch (policy.kind) {
    case 'all':
      return { all: {} };
    case 'specific':
      return { specific: { versions: policy.versions } };
    case 'latest':
      return { latest: { num_versions: policy.count } };
  }
}
