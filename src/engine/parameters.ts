/**
 * Request parameters that the protocol or Triton gives a meaning, checked and typed; all others pass unread.
 *
 * Called by validation.
 */
import { invalid, printable } from '../base/errors.js';
import type { Parameters } from './types.js';

export interface KnownParameters {
  /** Queue timeout in microseconds; undefined = none asked for. */
  readonly timeoutUs: number | undefined;
  /** Priority level asked for, 1 = first; 0 = the model's default. */
  readonly priority: number;
}

const NONE: KnownParameters = { timeoutUs: undefined, priority: 0 };

/** Throws INVALID_ARGUMENT for a known parameter of a wrong type or range and for reserved names. */
export function knownParameters(parameters: Parameters): KnownParameters {
  if (parameters.size === 0) return NONE;
  for (const name of parameters.keys()) {
    if (name.startsWith('triton_') && name !== 'triton_enable_empty_final_response') {
      throw invalid(`parameter '${printable(name)}' starts with 'triton_', which is reserved for Triton usage`);
    }
    if (name.startsWith('shared_memory_')) throw invalid(`parameter '${printable(name)}' is not a request parameter`);
  }
  const sequence = parameters.get('sequence_id');
  if (typeof sequence === 'boolean') {
    throw invalid("invalid value type for 'sequence_id' parameter, expected int64_param or string_param.");
  }
  for (const name of ['sequence_start', 'sequence_end']) {
    const value = parameters.get(name);
    if (value !== undefined && typeof value !== 'boolean') {
      throw invalid(`invalid value type for '${name}' parameter, expected bool_param.`);
    }
  }
  const timeout = unsigned(parameters, 'timeout', 'int64_param');
  return { timeoutUs: timeout, priority: unsigned(parameters, 'priority', 'uint64_param') ?? 0 };
}

function unsigned(parameters: Parameters, name: string, expected: string): number | undefined {
  const value = parameters.get(name);
  if (value === undefined) return undefined;
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw invalid(`invalid value type for '${name}' parameter, expected ${expected}.`);
  }
  if (value < 0 || value > 2n ** 63n - 1n || !Number.isInteger(Number(value))) {
    throw invalid(`invalid value for '${name}' parameter, expected a whole number from 0 to 2^63 - 1, got ${value}`);
  }
  return Number(value);
}
