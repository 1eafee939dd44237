/**
 * The proto-shaped configuration: what config.pbtxt says, in the field names of `proto/model_config.proto`.
 *
 * Types only; used by the `model-*.ts` files. Everything is optional, because a text may leave everything out; what is absent
 * here was not written (an explicit zero is there). Fields that the engine neither reads nor refuses are left out.
 */

export interface RawReshape {
  readonly shape?: readonly number[];
}

/** `input` or `output`; the two differ in fields that only one of them uses. */
export interface RawTensor {
  readonly name?: string;
  readonly data_type?: string;
  readonly dims?: readonly number[];
  readonly reshape?: RawReshape;
  readonly is_shape_tensor?: boolean;
  readonly is_non_linear_format_io?: boolean;
  /** Inputs only. */
  readonly format?: string;
  readonly allow_ragged_batch?: boolean;
  readonly optional?: boolean;
  /** Outputs only. */
  readonly label_filename?: string;
}

export interface RawInstanceGroup {
  readonly name?: string;
  readonly kind?: string;
  readonly count?: number;
  readonly gpus?: readonly number[];
  readonly profile?: readonly string[];
  readonly passive?: boolean;
}

export interface RawQueuePolicy {
  readonly timeout_action?: string;
  readonly default_timeout_microseconds?: number;
  readonly allow_timeout_override?: boolean;
  readonly max_queue_size?: number;
}

export interface RawDynamicBatching {
  readonly preferred_batch_size?: readonly number[];
  readonly max_queue_delay_microseconds?: number;
  readonly preserve_ordering?: boolean;
  readonly priority_levels?: number;
  readonly default_priority_level?: number;
  readonly default_queue_policy?: RawQueuePolicy;
  readonly priority_queue_policy?: Readonly<Record<string, RawQueuePolicy>>;
}

export interface RawVersionPolicy {
  readonly latest?: { readonly num_versions?: number };
  readonly all?: Readonly<Record<string, never>>;
  readonly specific?: { readonly versions?: readonly number[] };
}

export interface RawAccelerator {
  readonly name?: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

export interface RawWarmupInput {
  readonly data_type?: string;
  readonly dims?: readonly number[];
  readonly zero_data?: boolean;
  readonly random_data?: boolean;
  readonly input_data_file?: string;
}

export interface RawWarmup {
  readonly name?: string;
  readonly batch_size?: number;
  readonly count?: number;
  readonly inputs?: Readonly<Record<string, RawWarmupInput>>;
}

export interface RawConfig {
  readonly name?: string;
  readonly platform?: string;
  readonly backend?: string;
  readonly version_policy?: RawVersionPolicy;
  readonly max_batch_size?: number;
  readonly input?: readonly RawTensor[];
  readonly output?: readonly RawTensor[];
  readonly instance_group?: readonly RawInstanceGroup[];
  readonly default_model_filename?: string;
  readonly metric_tags?: Readonly<Record<string, string>>;
  readonly dynamic_batching?: RawDynamicBatching;
  readonly sequence_batching?: object;
  readonly ensemble_scheduling?: object;
  readonly optimization?: {
    readonly graph?: { readonly level?: number };
    readonly execution_accelerators?: {
      readonly gpu_execution_accelerator?: readonly RawAccelerator[];
      readonly cpu_execution_accelerator?: readonly RawAccelerator[];
    };
  };
  readonly parameters?: Readonly<Record<string, { readonly string_value?: string }>>;
  readonly model_warmup?: readonly RawWarmup[];
  readonly model_operations?: { readonly op_library_filename?: readonly string[] };
  readonly model_transaction_policy?: { readonly decoupled?: boolean };
  readonly batch_input?: readonly object[];
  readonly batch_output?: readonly object[];
  readonly model_repository_agents?: { readonly agents?: readonly object[] };
  readonly response_cache?: { readonly enable?: boolean };
}
