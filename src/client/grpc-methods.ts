/**
 * The methods of `inference.GRPCInferenceService` that are small: their messages, by the proto file, as the client's own types.
 *
 * Called by `grpc-client.ts`. The proto is read at the first of these calls, once per process. Messages with tensors are not decoded by
 * it: `grpc-encode.ts` and `grpc-decode.ts` do that.
 */
import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Datatype } from '../base/datatype.js';
import type { ModelMetadata, ServerMetadata, TensorMetadata } from './types.js';

const SERVICE = 'inference.GRPCInferenceService';

export const MODEL_INFER = `/${SERVICE}/ModelInfer`;
export const MODEL_STREAM_INFER = `/${SERVICE}/ModelStreamInfer`;

/** One of the small methods, with its codec. */
export interface SmallMethod<Answer> {
  readonly path: string;
  encode(request: object): Buffer;
  decode(bytes: Buffer): Answer;
}

let methods: ServiceDefinition | undefined;

function definitionOf(name: string): MethodDefinition<object, object> {
  methods ??= loadSync('open_inference_grpc.proto', {
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  })[SERVICE] as ServiceDefinition;
  return methods[name] as MethodDefinition<object, object>;
}

function method<Answer>(name: string, read: (answer: never) => Answer): SmallMethod<Answer> {
  return {
    path: `/${SERVICE}/${name}`,
    encode: (request) => definitionOf(name).requestSerialize(request),
    decode: (bytes) => read(definitionOf(name).responseDeserialize(bytes) as never),
  };
}

export const serverLive = method('ServerLive', ({ live }: { live: boolean }) => live);
export const serverReady = method('ServerReady', ({ ready }: { ready: boolean }) => ready);
export const modelReady = method('ModelReady', ({ ready }: { ready: boolean }) => ready);

export const serverMetadata = method(
  'ServerMetadata',
  ({ name, version, extensions }: ServerMetadata): ServerMetadata => ({ name, version, extensions }),
);

interface PlainTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

interface PlainMetadata extends Pick<ModelMetadata, 'name' | 'versions' | 'platform'> {
  readonly inputs: readonly PlainTensor[];
  readonly outputs: readonly PlainTensor[];
}

export const modelMetadata = method('ModelMetadata', (answer: PlainMetadata): ModelMetadata => {
  const { name, versions, platform, inputs, outputs } = answer;
  return { name, versions, platform, inputs: inputs.map(tensorOf), outputs: outputs.map(tensorOf) };
});

function tensorOf({ name, datatype, shape }: PlainTensor): TensorMetadata {
  return { name, datatype: datatype as Datatype, shape };
}

interface PlainConfig {
  readonly config: { readonly input: readonly { readonly name: string; readonly optional: boolean }[] } | null;
}

/** Names of the inputs that may be left out: of a model's configuration, which is Triton's extension. */
export const optionalInputs = method(
  'ModelConfig',
  ({ config }: PlainConfig): ReadonlySet<string> =>
    new Set(config?.input.filter(({ optional }) => optional).map(({ name }) => name)),
);
