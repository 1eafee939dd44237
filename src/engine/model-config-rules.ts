/**
 * What a configuration may say, judged by itself: Triton's rules and texts, and what this server does not do.
 *
 * Called by `model-complete.ts` before and after it fills gaps. Must not see the ONNX model (model-config-tensors.ts does).
 * Every function throws INVALID_ARGUMENT that names the model, or returns nothing.
 */
import { datatypeOfConfig } from '../base/datatype.js';
import { invalid, printable } from '../base/errors.js';
import type { RawConfig, RawDynamicBatching, RawTensor, RawVersionPolicy } from './model-config-raw.js';

export const BACKEND = 'onnxruntime';
export const PLATFORM = 'onnxruntime_onnx';

/** A queue per level is kept; nobody needs more, and the field is 64 bits wide. */
const PRIORITY_LEVELS_MAX = 256;

/** Refuses what the server would otherwise ignore to the user's surprise. */
export function refuseUnsupported(raw: RawConfig, model: string): void {
  const { backend = '', platform = '' } = raw;
  if (platform === 'ensemble' || raw.ensemble_scheduling !== undefined) {
    throw invalid(`ensemble scheduling not supported for ${model}`);
  }
  if (backend !== '' && backend !== BACKEND) {
    throw invalid(
      `unexpected backend '${printable(backend)}' for ${model}, this server runs ONNX models ('${BACKEND}')`,
    );
  }
  if (platform !== '' && platform !== PLATFORM) {
    if (backend !== '') {
      throw invalid(`unexpected 'platform' and 'backend' pair, got:${printable(platform)}, ${backend} for ${model}`);
    }
    throw invalid(
      `unexpected platform type '${printable(platform)}' for ${model}, this server runs ONNX models ('${PLATFORM}')`,
    );
  }
  if (raw.sequence_batching !== undefined) throw invalid(`sequence batching not supported for ${model}`);
  if (raw.batch_input?.length) throw invalid(`batch_input not supported for ${model}`);
  if (raw.batch_output?.length) throw invalid(`batch_output not supported for ${model}`);
  if (raw.model_repository_agents?.agents?.length) throw invalid(`model_repository_agents not supported for ${model}`);
  if (raw.model_operations?.op_library_filename?.length) {
    throw invalid(`custom operation libraries (model_operations) not supported for ${model}`);
  }
  for (const input of raw.input ?? []) {
    if (input.allow_ragged_batch) {
      throw invalid(`allow_ragged_batch of input '${printable(input.name ?? '', 128)}' not supported for ${model}`);
    }
  }
}

export function checkMaxBatchSize(raw: RawConfig, model: string): void {
  if ((raw.max_batch_size ?? 0) < 0) throw invalid(`'max_batch_size' must be non-negative value for ${model}`);
}

/** Rules for a tensor that the configuration lists. */
export function checkTensor(tensor: RawTensor, kind: 'input' | 'output', model: string): void {
  const refuse = (what: string) => invalid(`${what} for ${model}`);
  if (!tensor.name) throw refuse(`model ${kind} must specify 'name'`);
  const subject = `model ${kind} '${printable(tensor.name, 128)}'`;
  if (datatypeOfConfig(tensor.data_type ?? '') === undefined) throw refuse(`${subject} must specify 'data_type'`);
  const dims = tensor.dims ?? [];
  if (dims.length === 0) throw refuse(`${subject} must specify 'dims'`);
  if (!dims.every(isDimension)) {
    throw refuse(`${subject} dimension must be integer >= 1, or -1 to indicate a variable-size dimension`);
  }
  if (tensor.reshape !== undefined) {
    const problem = reshapeProblem(dims, tensor.reshape.shape ?? []);
    if (problem !== undefined) throw refuse(`${subject} ${problem}`);
  }
  if (tensor.format !== undefined && tensor.format !== 'FORMAT_NONE' && dims.length !== 3) {
    throw refuse('model input NHWC/NCHW require 3 dims');
  }
  if (tensor.is_shape_tensor) throw refuse('shape tensors are only supported for TensorRT platform');
  if (tensor.is_non_linear_format_io) throw refuse('Non-linear IO format is only supported for the TensorRT platform');
}

function isDimension(dim: number): boolean {
  return dim === -1 || (dim >= 1 && Number.isSafeInteger(dim));
}

function reshapeProblem(dims: readonly number[], shape: readonly number[]): string | undefined {
  if (!shape.every(isDimension)) {
    return 'reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension';
  }
  // Sizes between the variable dimensions: [2, 4, -1, 6] has [8, 6] and so fits [8, -1, 1, 6].
  const given = sizesBetweenVariables(dims);
  const wanted = sizesBetweenVariables(shape);
  if (given.length > 1 && wanted.length > 1 && given.length !== wanted.length) {
    return 'has different number of variable-size dimensions for dims and reshape';
  }
  if (given.length !== wanted.length || given.some((size, index) => size !== wanted[index])) {
    return 'has different size for dims and reshape';
  }
  return undefined;
}

function sizesBetweenVariables(dims: readonly number[]): bigint[] {
  const sizes = [1n];
  for (const dim of dims) {
    if (dim === -1) sizes.push(1n);
    else sizes[sizes.length - 1]! *= BigInt(dim);
  }
  return sizes;
}

/** Rules for `dynamic_batching`, with the final max_batch_size. */
export function checkDynamicBatching(batching: RawDynamicBatching, maxBatchSize: number, model: string): void {
  for (const size of batching.preferred_batch_size ?? []) {
    if (size <= 0) throw invalid(`dynamic batching preferred size must be positive for ${model}`);
    if (size > maxBatchSize) throw invalid(`dynamic batching preferred size must be <= max batch size for ${model}`);
  }
  const levels = batching.priority_levels ?? 0;
  if (levels > PRIORITY_LEVELS_MAX) {
    throw invalid(`priority_levels must be at most ${PRIORITY_LEVELS_MAX} for ${model}, got ${levels}`);
  }
  if (levels > 0) {
    const standard = batching.default_priority_level ?? 0;
    if (standard < 1 || standard > levels) {
      throw invalid(`default priority level must be in range [1, ${levels}] for ${model}`);
    }
    for (const key of Object.keys(batching.priority_queue_policy ?? {})) {
      const level = Number(key);
      if (level < 1 || level > levels) {
        throw invalid(`priority queue policy must have priority level in range [1, ${levels}] for ${model}`);
      }
    }
  }
  if (batching.preserve_ordering) checkPreserveOrdering(batching, levels, model);
}

function checkPreserveOrdering(batching: RawDynamicBatching, levels: number, model: string): void {
  if (levels > 1) {
    throw invalid(`Only one priority level is allowed when 'preserve_ordering' is true for ${model}`);
  }
  const policies = [batching.default_queue_policy ?? {}, ...Object.values(batching.priority_queue_policy ?? {})];
  for (const policy of policies) {
    if (policy.timeout_action === 'DELAY' && (policy.default_timeout_microseconds ?? 0) !== 0) {
      throw invalid(`Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for ${model}`);
    }
  }
}

export function checkInstanceGroups(raw: RawConfig, model: string): void {
  for (const [index, group] of (raw.instance_group ?? []).entries()) {
    const subject = `instance group ${printable(group.name || `${model}_${index}`, 128)} of model ${model}`;
    const { kind = 'KIND_AUTO', gpus = [] } = group;
    if ((kind === 'KIND_CPU' || kind === 'KIND_MODEL') && gpus.length > 0) {
      throw invalid(`${subject} has kind ${kind} but specifies one or more GPUs`);
    }
    const negative = gpus.find((gpu) => gpu < 0);
    if (negative !== undefined) throw invalid(`${subject} specifies invalid or unsupported gpu id ${negative}`);
    if ((group.count ?? 0) < 0) throw invalid(`${subject} must have a non-negative count, got ${group.count}`);
    if (group.profile?.length) {
      throw invalid(`${subject} specifies profile field which is only supported for TensorRT models`);
    }
    if (group.passive) throw invalid(`${subject} is passive, which is not supported`);
  }
}

export function checkVersionPolicy(policy: RawVersionPolicy, model: string): void {
  if (policy.latest?.num_versions === 0) {
    throw invalid(`version_policy latest must have num_versions of at least 1 for ${model}`);
  }
  if (policy.specific === undefined) return;
  const { versions = [] } = policy.specific;
  if (versions.length === 0) throw invalid(`version_policy specific must list at least one version for ${model}`);
  const bad = versions.find((version) => version < 1 || !Number.isSafeInteger(version));
  if (bad !== undefined) throw invalid(`version_policy specific must list integers >= 1 for ${model}, got ${bad}`);
}

export function checkResponseCache(raw: RawConfig, model: string): void {
  if (raw.response_cache?.enable && raw.model_transaction_policy?.decoupled) {
    throw invalid(
      `Response Cache does not currently support model ${model} with 'decoupled' transaction policy. Please disable the response cache.`,
    );
  }
}
