/**
 * How ONNX Runtime is to make a model's sessions, from its configuration and the server's defaults. Values only.
 *
 * Called by the model loader before the first session exists, so it reads the proto-shaped config.
 */
import { ServeError } from '../base/errors.js';
import type { SessionOptions } from '../runtime/messages.js';
import type { InstanceGroup } from './model-config.js';
import type { RawConfig } from './model-config-raw.js';
import {
  executionAccelerators,
  graphOptimizationLevel,
  parametersOf,
  sessionSettings,
} from './model-config-session.js';

export interface SessionDefaults {
  /** Threads inside one session; workers times this is at most the cores there are. */
  readonly intraOpNumThreads: number;
  /** Workers share the cores: a session that spins while it waits takes them from the others. */
  readonly configEntries: Readonly<Record<string, string>>;
  /**
   * Whether sessions keep the memory of their largest run for the next one, where the model does not say it; true when not given. Under
   * a memory budget they must not: what a session holds between runs is then what it cost to load.
   */
  readonly enableCpuMemArena?: boolean;
  /** Whether sessions remember where each shape's buffers lay; true when not given. Every length of a text is another shape. */
  readonly enableMemPattern?: boolean;
}

/** Names in Triton's configs and ONNX Runtime's names for its providers. */
const PROVIDERS: Readonly<Record<string, string>> = {
  cuda: 'cuda',
  tensorrt: 'tensorrt',
  webgpu: 'webgpu',
  openvino: 'openvino',
  directml: 'dml',
  coreml: 'coreml',
};

/** Throws INVALID_ARGUMENT for an accelerator that is not known. */
export function sessionOptions(
  raw: RawConfig,
  group: InstanceGroup,
  modelName: string,
  defaults: SessionDefaults,
): SessionOptions {
  const settings = sessionSettings(parametersOf(raw), modelName);
  return {
    executionProviders: providers(raw, group, modelName),
    deviceId: group.gpus[0] ?? 0,
    intraOpNumThreads: settings.intraOpNumThreads || defaults.intraOpNumThreads,
    interOpNumThreads: settings.interOpNumThreads || 1,
    executionMode: settings.executionMode ?? 'sequential',
    graphOptimizationLevel: graphOptimizationLevel(raw, modelName),
    enableCpuMemArena: settings.enableCpuMemArena ?? defaults.enableCpuMemArena ?? true,
    enableMemPattern: settings.enableMemPattern ?? defaults.enableMemPattern ?? true,
    configEntries: { ...defaults.configEntries, ...settings.configEntries },
  };
}

function providers(raw: RawConfig, group: InstanceGroup, modelName: string): string[] {
  const accelerators = executionAccelerators(raw);
  const gpu = group.kind === 'KIND_GPU';
  const listed = (gpu ? accelerators.gpu : accelerators.cpu).map(({ name }) => {
    const provider = PROVIDERS[name.toLowerCase()];
    if (!provider) {
      const known = Object.keys(PROVIDERS).join(', ');
      throw new ServeError(
        'INVALID_ARGUMENT',
        `unknown execution accelerator '${name}' for model '${modelName}', known are ${known}`,
      );
    }
    return provider;
  });
  if (gpu && !listed.includes('cuda') && !listed.includes('webgpu')) listed.push('cuda');
  return [...listed, 'cpu'];
}
