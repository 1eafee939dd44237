/**
 * From a request body to the engine's InferRequest: JSON, JSON with binary tensors behind it, one bare tensor, or one picture.
 *
 * Called by `infer-route.ts`. The tensors of a binary request are views on the body. Knows the binary tensor extension; validates
 * only what the wire form itself needs, the rest is the engine's.
 */
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { invalid, printable, ServeError } from '../base/errors.js';
import type { JsonInferRequest, JsonInput, JsonParameters } from '../base/tensor-json.js';
import { elementCount } from '../base/tensor-json.js';
import type { Engine, InferInput, ModelContent, ModelMetadata, Parameters, RequestedOutput } from '../engine/types.js';

/** An infer request but for what the route knows: model, timeline, deadline. */
export interface InferBody {
  readonly arm: 'rest_json' | 'rest_binary';
  readonly id: string;
  readonly inputs: readonly InferInput[];
  readonly outputs: readonly RequestedOutput[];
  readonly parameters: Parameters;
  /** Whether an output is to be sent as bytes behind the JSON. */
  isBinaryOutput(name: string): boolean;
}

/**
 * Length of the JSON at the front of a body: all of it without the header field, 0 for a bare tensor. Throws INVALID_ARGUMENT for a
 * field that is no number or does not fit the body.
 */
export function jsonLength(field: string | undefined, bodyBytes: number): number {
  if (field === undefined) return bodyBytes;
  if (!/^\d{1,15}$/.test(field)) {
    throw invalid(`Unable to parse Inference-Header-Content-Length, got: ${printable(field)}`);
  }
  const length = Number(field);
  if (length > bodyBytes) {
    throw invalid(`inference header size should be in range (0, ${bodyBytes}), got: ${length}`);
  }
  return length;
}

/** The parsed JSON with the bytes behind it. */
export function composeInfer(json: JsonInferRequest, tail: Uint8Array, modelName: string, binary: boolean): InferBody {
  const model = printable(modelName);
  for (const key of json.parameters.keys()) {
    if (key.startsWith('triton_')) {
      throw invalid(
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
      );
    }
  }
  let at = 0;
  const inputs = json.inputs.map((input): InferInput => {
    const size = binarySize(input);
    const { name, datatype, shape } = input;
    if (size === undefined) return { name, datatype, shape, data: input.data! };
    if (at + size > tail.length) {
      throw invalid(
        `unexpected size for input '${printable(name)}', expecting ${at + size - tail.length} additional bytes for model '${model}'`,
      );
    }
    at += size;
    return { name, datatype, shape, data: tail.subarray(at - size, at) };
  });
  if (at < tail.length) throw invalid(`unexpected additional input data for model '${model}'`);
  const { parameters, binaryByDefault } = withoutBinaryDefault(json.parameters);
  const binaryOutputs = new Map<string, boolean>();
  const outputs = json.outputs.map(({ name, parameters }): RequestedOutput => {
    binaryOutputs.set(name, isBinary(name, parameters));
    return { name, classification: classesAsked(name, parameters) };
  });
  return {
    arm: binary ? 'rest_binary' : 'rest_json',
    id: json.id,
    inputs,
    outputs,
    parameters,
    isBinaryOutput: (name) => binaryOutputs.get(name) ?? binaryByDefault,
  };
}

/** Bytes of an input that lies behind the JSON; undefined for one with `data`. */
function binarySize(input: JsonInput): number | undefined {
  const size = input.parameters.get('binary_data_size');
  const shared = input.parameters.has('shared_memory_region');
  const set: string[] = [];
  if (input.data !== undefined) set.push("'data'");
  if (size !== undefined) set.push("'binary_data_size'");
  if (shared) set.push("'shared_memory_region'");
  if (set.length !== 1) {
    const found = set.length === 0 ? 'no field is set' : `set ${set.join(' ')}`;
    throw invalid(
      `Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'. But ${found} for input '${printable(input.name)}'`,
    );
  }
  if (shared) throw sharedMemoryRefused();
  if (size === undefined) return undefined;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw invalid(`Unable to parse 'binary_data_size' of input '${printable(input.name)}', expected a number of bytes`);
  }
  return size;
}

function sharedMemoryRefused(): ServeError {
  return new ServeError(
    'UNIMPLEMENTED',
    'Client shared memory is disabled: this server has no shared memory extension',
  );
}

function isBinary(name: string, parameters: JsonParameters): boolean {
  if (parameters.has('shared_memory_region')) throw sharedMemoryRefused();
  const binary = parameters.get('binary_data') ?? false;
  if (typeof binary !== 'boolean') throw invalid(`'binary_data' of output '${printable(name)}' is no bool`);
  return binary;
}

/** The `classification` parameter of an output, 0 without. */
function classesAsked(name: string, parameters: JsonParameters): number {
  const value = parameters.get('classification');
  if (value === undefined) return 0;
  const isWhole = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  if (!isWhole || value <= 0) {
    const got = printable(String(value));
    throw invalid(
      `Unable to parse 'classification' of output '${printable(name)}', expected a whole number > 0, got ${got}`,
    );
  }
  return Number(value);
}

/** `binary_data_output` speaks of outputs that are not listed; the engine does not know it. */
function withoutBinaryDefault(parameters: JsonParameters): { parameters: Parameters; binaryByDefault: boolean } {
  const binaryByDefault = parameters.get('binary_data_output') ?? false;
  if (typeof binaryByDefault !== 'boolean') throw invalid("'binary_data_output' is no bool");
  parameters.delete('binary_data_output');
  return { parameters, binaryByDefault };
}

/** A body that is a picture, as its content type says; all outputs go back, as bytes for a client of the binary tensor extension. */
export function composePicture(body: Uint8Array, binary: boolean): InferBody {
  return {
    arm: binary ? 'rest_binary' : 'rest_json',
    id: '',
    inputs: [{ name: '', datatype: 'BYTES', shape: [1], data: element(body), content: 'image' }],
    outputs: [],
    parameters: new Map(),
    isBinaryOutput: () => binary,
  };
}

/**
 * A body that is the only input's tensor and nothing else (header length 0), or the text of a model whose text makes several. Name,
 * datatype and shape come from the model, one variable dimension from the length; a batching model gets a batch of one; all outputs
 * go back as bytes.
 */
export function composeRawInfer(body: Uint8Array, engine: Engine, modelName: string, modelVersion: string): InferBody {
  const metadata = engine.modelMetadata(modelName, modelVersion);
  const batching = Number(engine.modelConfig(modelName, modelVersion).max_batch_size ?? 0) > 0;
  const content = engine.modelContent(modelName, modelVersion);
  const tensors = metadata.inputs.filter(({ name }) => !content.inputs.some((own) => own.name === name));
  return {
    arm: 'rest_binary',
    id: '',
    inputs: [onlyText(body, tensors.length, content) ?? rawInput(body, { ...metadata, inputs: tensors }, batching)],
    outputs: [],
    parameters: new Map(),
    isBinaryOutput: () => true,
  };
}

function onlyText(body: Uint8Array, tensorCount: number, content: ModelContent): InferInput | undefined {
  const [only, ...others] = content.inputs.filter(({ kind }) => kind !== 'text_pair');
  if (tensorCount < 2 || only?.kind !== 'text' || others.length > 0) return undefined;
  return { name: only.name, datatype: 'BYTES', shape: [1], data: element(body), content: 'text' };
}

/** One BYTES element. */
function element(bytes: Uint8Array): Uint8Array {
  const data = Buffer.allocUnsafe(4 + bytes.length);
  data.writeUInt32LE(bytes.length);
  data.set(bytes, 4);
  return data;
}

function rawInput(body: Uint8Array, metadata: ModelMetadata, batching: boolean): InferInput {
  const model = printable(metadata.name);
  const [input] = metadata.inputs;
  if (input === undefined || metadata.inputs.length > 1) {
    throw invalid(
      `Raw request must only have 1 input (found ${metadata.inputs.length}) to be deduced for model '${model}'`,
    );
  }
  const shape = batching ? [1, ...input.shape.slice(1)] : [...input.shape];
  const variable = shape.flatMap((dim, index) => (dim < 0 ? [index] : []));
  if (input.datatype === 'BYTES') {
    for (const index of variable) shape[index] = 1;
    if (elementCount(shape) !== 1) {
      throw invalid(`For BYTE datatype raw input '${input.name}', the model must have input shape [1]`);
    }
    return { name: input.name, datatype: input.datatype, shape, data: element(body) };
  }
  if (variable.length > 1) {
    throw invalid(
      `The shape of the raw input '${input.name}' can not be deduced because there are more than one variable-sized dimension`,
    );
  }
  if (variable.length === 1) shape[variable[0]!] = deduced(body, input.datatype, shape, variable[0]!);
  return { name: input.name, datatype: input.datatype, shape, data: body };
}

function deduced(body: Uint8Array, datatype: Datatype, shape: readonly number[], variable: number): number {
  const others = elementCount(shape.filter((_, index) => index !== variable)) * DATATYPES[datatype].byteSize;
  const length = body.length / others;
  if (!Number.isInteger(length)) {
    throw invalid(
      `raw input of ${body.length} bytes is no multiple of the ${others} bytes that one step of its shape takes`,
    );
  }
  return length;
}
