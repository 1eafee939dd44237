/**
 * A model's configuration as the engine uses it, and the way from a config.pbtxt to it.
 *
 *   text --parseModelConfig--> RawConfig --completeModelConfig (model-complete.ts), with the ONNX file's tensors--> ModelConfig
 *
 * Called by the registry (load) and, through the engine's door, by both front ends (metadata, config). Owns the typed shape.
 * Must not read files, know protobuf (base/pbtxt.ts does) or know ONNX Runtime.
 */
import type { Datatype } from '../base/datatype.js';
import { invalid, printable, ServeError } from '../base/errors.js';
import { parsePbtxt, withDefaults } from '../base/pbtxt.js';
import type { RawConfig } from './model-config-raw.js';
import type { TensorMetadata } from './types.js';

/** An input or output as the ONNX file declares it. */
export interface OnnxTensor {
  readonly name: string;
  /** Undefined where the Open Inference Protocol or the runtime has none for it (bfloat16, sequences, maps). */
  readonly datatype: Datatype | undefined;
  /** ONNX Runtime's name of the type, for messages. */
  readonly ortType: string;
  /** A string is symbolic ('' = no name); never negative. */
  readonly dims: readonly (number | string)[];
  /** The file holds a value for this input, so that a run can do without it. */
  readonly hasDefault?: boolean;
}

/** A tensor as clients send or get it. Dimensions exclude the batch dimension when the model batches; -1 = variable. */
export interface TensorConfig {
  readonly name: string;
  readonly datatype: Datatype;
  readonly dims: readonly number[];
  /** What the ONNX model has in place of `dims`, of equal element count; `[]` = a scalar (per batch item). */
  readonly reshape: readonly number[] | undefined;
}

export interface InputConfig extends TensorConfig {
  /** A request may leave it out: the ONNX file holds a value for it. Only where the model does not batch. */
  readonly optional: boolean;
  /** False: a configuration that asks for ragged batches is refused at load. */
  readonly allowRaggedBatch: boolean;
}

export interface OutputConfig extends TensorConfig {
  /** File in the model's directory with one label a line; '' = none. */
  readonly labelFilename: string;
}

/** What holds for requests while they wait. */
export interface QueuePolicy {
  readonly timeoutAction: 'REJECT' | 'DELAY';
  /** 0 = none. */
  readonly defaultTimeoutUs: number;
  readonly allowTimeoutOverride: boolean;
  /** Requests; 0 = Triton's unbounded, the engine's own bound holds. */
  readonly maxQueueSize: number;
}

export interface DynamicBatching {
  /** Ascending, without repeats, each in 1..maxBatchSize; [maxBatchSize] when the config names none; [] when it does not batch. */
  readonly preferredBatchSizes: readonly number[];
  readonly maxQueueDelayUs: number;
  readonly preserveOrdering: boolean;
  /** 0 = priorities are ignored; level 1 goes first. */
  readonly priorityLevels: number;
  /** In 1..priorityLevels; 0 when there are no levels. */
  readonly defaultPriorityLevel: number;
  readonly defaultQueuePolicy: QueuePolicy;
  /** By level; a level without its own uses the default. */
  readonly priorityQueuePolicy: ReadonlyMap<number, QueuePolicy>;
}

export interface InstanceGroup {
  readonly name: string;
  readonly kind: 'KIND_AUTO' | 'KIND_CPU' | 'KIND_GPU' | 'KIND_MODEL';
  /** At least 1; for a GPU group per GPU. */
  readonly count: number;
  /** Empty = all. */
  readonly gpus: readonly number[];
}

export type VersionPolicy =
  | { readonly kind: 'latest'; readonly count: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'specific'; readonly versions: readonly number[] };

export interface WarmupInput {
  readonly datatype: Datatype;
  /** Without the batch dimension; fully specified. */
  readonly dims: readonly number[];
  /** `file` lies in the model's `warmup` directory and holds raw data. */
  readonly source: { readonly kind: 'zero' | 'random' } | { readonly kind: 'file'; readonly file: string };
}

/** A request to run before the model is ready. */
export interface Warmup {
  readonly name: string;
  /** At least 1. */
  readonly batchSize: number;
  /** Runs, at least 1. */
  readonly count: number;
  readonly inputs: ReadonlyMap<string, WarmupInput>;
}

/** What the configuration says about the ONNX Runtime session; absent = the server's default. */
export interface SessionSettings {
  /** 0 = the server chooses. */
  readonly intraOpNumThreads?: number;
  readonly interOpNumThreads?: number;
  readonly executionMode?: 'sequential' | 'parallel';
  readonly enableCpuMemArena?: boolean;
  readonly enableMemPattern?: boolean;
  /** `session.*` entries, as written. */
  readonly configEntries: Readonly<Record<string, string>>;
  /** `memory.*` entries of a run, as written. */
  readonly runEntries: Readonly<Record<string, string>>;
}

export interface Accelerator {
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** Complete and valid for the ONNX model that it was made with. */
export interface ModelConfig {
  readonly name: string;
  readonly platform: string;
  readonly backend: string;
  /** 0 = tensors have no batch dimension. */
  readonly maxBatchSize: number;
  /** In the config's order, or the ONNX file's. */
  readonly inputs: readonly InputConfig[];
  readonly outputs: readonly OutputConfig[];
  /** Inputs for texts and pictures in place of some of `inputs`; empty for most models. */
  readonly contents: readonly TensorConfig[];
  /** Absent: requests are never joined. */
  readonly dynamicBatching: DynamicBatching | undefined;
  readonly instanceGroups: readonly InstanceGroup[];
  readonly versionPolicy: VersionPolicy;
  readonly defaultModelFilename: string;
  readonly warmup: readonly Warmup[];
  readonly sessionSettings: SessionSettings;
  readonly graphOptimizationLevel: 'disabled' | 'basic' | 'extended' | 'all';
  /** By the kind of instance they are for, in order of preference. */
  readonly executionAccelerators: { readonly gpu: readonly Accelerator[]; readonly cpu: readonly Accelerator[] };
  /** All `parameters`, also those that went into `sessionSettings`. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly metricTags: Readonly<Record<string, string>>;
  readonly responseCache: boolean;
  readonly decoupled: boolean;
  /** The same in proto shape, completed. */
  readonly raw: RawConfig;
}

/**
 * Reads a config.pbtxt. `directoryName` is the model's directory, whose name the model must bear. Throws INVALID_ARGUMENT with
 * the line of a syntax error.
 */
export function parseModelConfig(text: string, directoryName: string): RawConfig {
  let raw: RawConfig;
  try {
    // What parsePbtxt returns has the shape of model_config.proto, which RawConfig writes down.
    raw = parsePbtxt(text) as RawConfig;
  } catch (error) {
    const cause = ServeError.from(error);
    throw new ServeError(cause.code, `config.pbtxt of model '${printable(directoryName)}', ${cause.message}`, {
      cause,
    });
  }
  checkName(raw, directoryName);
  return raw;
}

/** Throws INVALID_ARGUMENT when the configuration names another model; an empty name is fine. */
export function checkName(raw: RawConfig, directoryName: string): void {
  if (raw.name === undefined || raw.name === '' || raw.name === directoryName) return;
  throw invalid(
    `unexpected directory name '${printable(directoryName)}' for model '${printable(raw.name)}', directory name must equal model name`,
  );
}

/** File name of the model in each version's directory, known before the model is. */
export function modelFilename(raw: RawConfig): string {
  return raw.default_model_filename || 'model.onnx';
}

/** Triton's ModelConfig with all primitive defaults, for both protocols' config requests. */
export function describeModelConfig(config: ModelConfig): Record<string, unknown> {
  return withDefaults(config.raw as Record<string, unknown>);
}

/** Inputs and outputs as the Open Inference Protocol describes them: with a leading -1 when the model batches. */
export function modelMetadataTensors(config: ModelConfig): {
  inputs: readonly TensorMetadata[];
  outputs: readonly TensorMetadata[];
} {
  const metadata = ({ name, datatype, dims }: TensorConfig): TensorMetadata => ({
    name,
    datatype,
    shape: config.maxBatchSize > 0 ? [-1, ...dims] : dims,
  });
  return { inputs: [...config.contents, ...config.inputs].map(metadata), outputs: config.outputs.map(metadata) };
}
