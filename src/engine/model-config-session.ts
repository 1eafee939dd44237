/**
 * The part of a configuration that ONNX Runtime's sessions are made with: `parameters`, `optimization`, `instance_group`.
 *
 * Called by `model-complete.ts`. Owns the names of Triton's parameters for this backend. Must not decide what the machine has:
 * kinds and accelerators are values here. Everything that throws throws INVALID_ARGUMENT naming model and parameter.
 */
import { invalid, printable } from '../base/errors.js';
import type { InstanceGroup, ModelConfig, SessionSettings } from './model-config.js';
import type { RawAccelerator, RawConfig, RawInstanceGroup } from './model-config-raw.js';

/** All parameters by name. */
export function parametersOf(raw: RawConfig): Map<string, string> {
  return new Map(Object.entries(raw.parameters ?? {}).map(([key, value]) => [key, value.string_value ?? '']));
}

export function sessionSettings(parameters: ReadonlyMap<string, string>, model: string): SessionSettings {
  const entries = (prefix: string) => Object.fromEntries([...parameters].filter(([key]) => key.startsWith(prefix)));
  const settings: { -readonly [key in keyof SessionSettings]: SessionSettings[key] } = {
    configEntries: entries('session.'),
    runEntries: entries('memory.'),
  };
  const read = <T>(key: string, parse: (key: string, value: string, model: string) => T): T | undefined => {
    const value = parameters.get(key);
    return value === undefined ? undefined : parse(key, value, model);
  };
  const intraOp = read('intra_op_thread_count', parseCount);
  if (intraOp !== undefined) settings.intraOpNumThreads = intraOp;
  const interOp = read('inter_op_thread_count', parseCount);
  if (interOp !== undefined) settings.interOpNumThreads = interOp;
  const mode = read('execution_mode', parseExecutionMode);
  if (mode !== undefined) settings.executionMode = mode;
  const arena = read('enable_mem_arena', parseSwitch);
  if (arena !== undefined) settings.enableCpuMemArena = arena;
  const pattern = read('enable_mem_pattern', parseSwitch);
  if (pattern !== undefined) settings.enableMemPattern = pattern;
  return settings;
}

/** Whether the model's own configuration says when it is loaded; undefined where it leaves that to the server's option. */
export function loadOnFirstUse(parameters: ReadonlyMap<string, string>, model: string): boolean | undefined {
  const value = parameters.get('load_on_first_use');
  return value === undefined ? undefined : parseSwitch('load_on_first_use', value, model);
}

function parseCount(key: string, value: string, model: string): number {
  const count = Number(value);
  if (/^\s*[+-]?\d+\s*$/.test(value) && count >= 0 && count <= 1024) return count;
  throw invalid(`failed to convert ${key} '${printable(value)}' to integral number in range [0, 1024] for ${model}`);
}

function parseExecutionMode(_key: string, value: string, model: string): 'sequential' | 'parallel' {
  const mode = value.trim();
  if (mode === '0') return 'sequential';
  if (mode === '1') return 'parallel';
  throw invalid(
    `Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got ${printable(value)} for ${model}`,
  );
}

function parseSwitch(key: string, value: string, model: string): boolean {
  const lower = value.trim().toLowerCase();
  if (lower === 'true' || lower === '1') return true;
  if (lower === 'false' || lower === '0') return false;
  throw invalid(`failed to convert ${key} '${printable(value)}' to boolean value for ${model}`);
}

/** Triton's scale for ONNX Runtime: 0, also when absent, is everything. */
export function graphOptimizationLevel(raw: RawConfig, model: string): ModelConfig['graphOptimizationLevel'] {
  const level = raw.optimization?.graph?.level ?? 0;
  switch (level) {
    case -1:
      return 'basic';
    case 0:
      return 'all';
    case 1:
      return 'extended';
    case 2:
      return 'disabled';
    default:
      throw invalid(`optimization graph level must be -1, 0, 1 or 2 for ${model}, got ${level}`);
  }
}

export function executionAccelerators(raw: RawConfig): ModelConfig['executionAccelerators'] {
  const plain = ({ name = '', parameters = {} }: RawAccelerator) => ({ name, parameters });
  const accelerators = raw.optimization?.execution_accelerators;
  return {
    gpu: (accelerators?.gpu_execution_accelerator ?? []).map(plain),
    cpu: (accelerators?.cpu_execution_accelerator ?? []).map(plain),
  };
}

/** One automatic group where none is written; names `<model>_<index>`, counts filled in. */
export function instanceGroups(raw: RawConfig, model: string, defaultCount: number): InstanceGroup[] {
  const groups: readonly RawInstanceGroup[] = raw.instance_group?.length ? raw.instance_group : [{}];
  return groups.map(({ name, kind = 'KIND_AUTO', count = 0, gpus = [] }, index) => ({
    name: name || `${model}_${index}`,
    // The proto's enum has exactly these labels.
    kind: kind as InstanceGroup['kind'],
    count: count > 0 ? count : defaultCount,
    gpus,
  }));
}
