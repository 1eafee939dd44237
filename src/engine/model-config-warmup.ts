/**
 * `model_warmup`: requests to run before a model is ready, checked against its inputs so that they can't fail for their form.
 *
 * Called by `model-complete.ts`. Must not read the data files (repository.ts does, when the model loads).
 */
import { DATATYPES, datatypeOfConfig } from '../base/datatype.js';
import { invalid, printable } from '../base/errors.js';
import type { InputConfig, Warmup, WarmupInput } from './model-config.js';
import type { RawWarmup, RawWarmupInput } from './model-config-raw.js';

export interface WarmupContext {
  readonly model: string;
  readonly maxBatchSize: number;
  readonly inputs: readonly InputConfig[];
}

/** Throws INVALID_ARGUMENT that names model, sample and input. */
export function warmups(raw: readonly RawWarmup[], context: WarmupContext): Warmup[] {
  return raw.map((sample) => warmup(sample, context));
}

function warmup(sample: RawWarmup, context: WarmupContext): Warmup {
  const { name = '', batch_size: batchSize = 0, count = 0 } = sample;
  const subject = `warmup sample '${printable(name)}' of model '${context.model}'`;
  const most = Math.max(1, context.maxBatchSize);
  if (batchSize < 1 || batchSize > most) {
    throw invalid(`${subject}: batch_size must be in range [1, ${most}], got ${batchSize}`);
  }
  const given = Object.entries(sample.inputs ?? {});
  const inputs = new Map(given.map(([key, input]) => [key, warmupInput(key, input, subject, context)]));
  const missing = context.inputs.filter((input) => !input.optional && !inputs.has(input.name));
  if (missing.length > 0) {
    const names = missing.map((input) => `'${printable(input.name, 128)}'`).join(', ');
    throw invalid(`${subject}: expected data for every input, missing ${names}`);
  }
  return { name, batchSize, count: Math.max(1, count), inputs };
}

function warmupInput(name: string, raw: RawWarmupInput, subject: string, context: WarmupContext): WarmupInput {
  const input = context.inputs.find((candidate) => candidate.name === name);
  const tensor = `${subject}: input '${printable(name, 128)}'`;
  if (input === undefined) throw invalid(`${tensor} is no input of the model`);
  const datatype = datatypeOfConfig(raw.data_type ?? '');
  if (datatype !== input.datatype) {
    throw invalid(
      `${tensor} must have data_type ${DATATYPES[input.datatype].configName}, got ${raw.data_type ?? 'TYPE_INVALID'}`,
    );
  }
  const dims = raw.dims ?? [];
  const fits =
    dims.length === input.dims.length &&
    dims.every((dim, index) => dim >= 0 && (input.dims[index] === -1 || input.dims[index] === dim));
  if (!fits) {
    throw invalid(
      `${tensor} must have fully specified dims that fit [${input.dims.join(',')}], got [${dims.join(',')}]`,
    );
  }
  return { datatype, dims, source: sourceOf(raw, tensor) };
}

function sourceOf(raw: RawWarmupInput, tensor: string): WarmupInput['source'] {
  if (raw.input_data_file !== undefined) return { kind: 'file', file: raw.input_data_file };
  // As in Triton being set is what counts, not the value.
  if (raw.random_data !== undefined) return { kind: 'random' };
  if (raw.zero_data !== undefined) return { kind: 'zero' };
  throw invalid(`${tensor} must specify one of 'zero_data', 'random_data' and 'input_data_file'`);
}
