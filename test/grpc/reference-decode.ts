/** What protobufjs makes of a request, brought to the shape that our decoder gives: the other side of the differential tests. */
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const proto = (name: string) => fileURLToPath(new URL(`../../proto/${name}`, import.meta.url));

function load(name: string): protobuf.Root {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => proto(target.split('/').pop()!);
  return root.loadSync(name, { keepCase: true });
}

const open = load('open_inference_grpc.proto');
const v1 = load('inference_service.proto');

export const ModelInferRequest = open.lookupType('inference.ModelInferRequest');
export const ModelInferResponse = open.lookupType('inference.ModelInferResponse');
export const ModelInferRequestV1 = v1.lookupType('inference.v1.ModelInferRequest');
export const MultimodalInferRequest = v1.lookupType('inference.v1.MultimodalInferRequest');
export const ModelInferResponseV1 = v1.lookupType('inference.v1.ModelInferResponse');

export interface PlainTensor {
  name?: string;
  datatype?: string;
  shape?: string[];
  parameters?: Record<string, PlainParameter>;
  contents?: Record<string, (string | number | boolean | Buffer)[]>;
  raw_contents?: Buffer;
}

export type PlainParameter = {
  bool_param?: boolean;
  int64_param?: string;
  string_param?: string;
  double_param?: number;
  uint64_param?: string;
};

export interface PlainRequest {
  model_name?: string;
  model_version?: string;
  id?: string;
  parameters?: Record<string, PlainParameter>;
  inputs?: PlainTensor[];
  outputs?: PlainTensor[];
  raw_input_contents?: Buffer[];
}

export interface Reference {
  modelName: string;
  modelVersion: string;
  id: string;
  parameters: Record<string, unknown>;
  inputs: {
    name: string;
    datatype: string;
    shape: number[];
    parameters: Record<string, unknown>;
    data: string;
    content?: string;
  }[];
  outputs: { name: string; parameters: Record<string, unknown> }[];
}

const PLAIN = { longs: String, defaults: false } as const;

/** Throws where protobufjs does. Typed contents are read by the tensor's datatype, as if nothing else could be set. */
export function referenceDecode(bytes: Buffer): Reference {
  const message = ModelInferRequest.toObject(ModelInferRequest.decode(bytes), PLAIN) as PlainRequest;
  return {
    modelName: message.model_name ?? '',
    modelVersion: message.model_version ?? '',
    id: message.id ?? '',
    parameters: parameters(message.parameters),
    inputs: (message.inputs ?? []).map((input, index) => ({
      name: input.name ?? '',
      datatype: input.datatype ?? '',
      shape: (input.shape ?? []).map(Number),
      parameters: parameters(input.parameters),
      data: quietNaNs(
        input.datatype ?? '',
        input.contents === undefined
          ? (message.raw_input_contents?.[index] ?? Buffer.alloc(0))
          : rawLayout(input.datatype ?? '', input.contents),
      ).toString('hex'),
    })),
    outputs: (message.outputs ?? []).map((output) => ({
      name: output.name ?? '',
      parameters: parameters(output.parameters),
    })),
  };
}

export function referenceDecodeV1(bytes: Buffer): Reference {
  const message = ModelInferRequestV1.toObject(ModelInferRequestV1.decode(bytes), PLAIN) as Omit<
    PlainRequest,
    'parameters'
  > & {
    parameters?: Record<string, string>;
  };
  return {
    modelName: message.model_name ?? '',
    modelVersion: message.model_version ?? '',
    id: '',
    parameters: Object.fromEntries(
      Object.entries(message.parameters ?? {}).map(([key, value]) => [`key ${key}`, value]),
    ),
    inputs: (message.inputs ?? []).map(({ name = '', datatype = '', shape = [], raw_contents = Buffer.alloc(0) }) => {
      // What has no shape and no other datatype is one string.
      if (shape.length === 0 && (datatype === '' || datatype === 'BYTES')) return element(name, 'text', raw_contents);
      const data = quietNaNs(datatype, raw_contents).toString('hex');
      return { name, datatype, shape: shape.map(Number), parameters: {}, data };
    }),
    outputs: [],
  };
}

interface PlainMultimodal {
  model_name?: string;
  model_version?: string;
  inputs?: { name?: string; image_bytes?: Buffer; text?: string; embedding?: { values?: number[] } }[];
  parameters?: Record<string, string>;
}

/** Throws where protobufjs does, and where an input has no content. */
export function referenceDecodeMultimodal(bytes: Buffer): Reference {
  const decoded = MultimodalInferRequest.decode(bytes);
  const message = MultimodalInferRequest.toObject(decoded, PLAIN) as PlainMultimodal;
  const parameters = Object.entries(message.parameters ?? {}).map(([key, value]) => [`key ${key}`, value]);
  return {
    modelName: message.model_name ?? '',
    modelVersion: message.model_version ?? '',
    id: '',
    parameters: Object.fromEntries(parameters),
    inputs: (message.inputs ?? []).map(({ name = '', image_bytes, text, embedding }) => {
      if (image_bytes !== undefined) return element(name, 'image', image_bytes);
      if (text !== undefined) return element(name, 'text', Buffer.from(text));
      const values = embedding?.values ?? [];
      if (embedding === undefined) throw new Error('no content');
      const data = quietNaNs('FP32', new Uint8Array(Float32Array.from(values).buffer)).toString('hex');
      return { name, datatype: 'FP32', shape: [values.length], parameters: {}, data, content: 'embedding' };
    }),
    outputs: [],
  };
}

function element(name: string, content: string, bytes: Uint8Array): Reference['inputs'][number] {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  const data = Buffer.concat([length, bytes]).toString('hex');
  return { name, datatype: 'BYTES', shape: [1], parameters: {}, data, content };
}

/**
 * Sets the quiet bit of every NaN: a number of JavaScript, which is what protobufjs gives, does not keep a signalling one. Ours
 * does, which the table tests hold.
 */
export function quietNaNs(datatype: string, bytes: Uint8Array): Buffer {
  const quiet = Buffer.from(bytes);
  if (datatype === 'FP32')
    for (let at = 0; at + 4 <= quiet.length; at += 4) if (Number.isNaN(quiet.readFloatLE(at))) quiet[at + 2]! |= 0x40;
  if (datatype === 'FP64')
    for (let at = 0; at + 8 <= quiet.length; at += 8) if (Number.isNaN(quiet.readDoubleLE(at))) quiet[at + 6]! |= 0x08;
  return quiet;
}

/** Keys get a prefix, so that `__proto__` is a key like any other. */
function parameters(map: Record<string, PlainParameter> = {}): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [key, choice] of Object.entries(map)) {
    const value =
      choice.bool_param ??
      exact(choice.int64_param) ??
      choice.string_param ??
      choice.double_param ??
      exact(choice.uint64_param);
    if (value !== undefined) result[`key ${key}`] = value;
  }
  return result;
}

function exact(digits: string | undefined): number | bigint | undefined {
  if (digits === undefined) return undefined;
  return Number.isSafeInteger(Number(digits)) ? Number(digits) : BigInt(digits);
}

export const TYPED_FIELD: Record<string, string> = {
  BOOL: 'bool_contents',
  INT8: 'int_contents',
  INT16: 'int_contents',
  INT32: 'int_contents',
  INT64: 'int64_contents',
  UINT8: 'uint_contents',
  UINT16: 'uint_contents',
  UINT32: 'uint_contents',
  UINT64: 'uint64_contents',
  FP32: 'fp32_contents',
  FP64: 'fp64_contents',
  BYTES: 'bytes_contents',
};

function rawLayout(datatype: string, contents: NonNullable<PlainTensor['contents']>): Buffer {
  const values = contents[TYPED_FIELD[datatype] ?? ''] ?? [];
  return Buffer.concat(values.map((value) => rawElement(datatype, value)));
}

function rawElement(datatype: string, value: string | number | boolean | Buffer): Buffer {
  const element = Buffer.alloc(8);
  switch (datatype) {
    case 'BOOL':
      return Buffer.from([value ? 1 : 0]);
    case 'INT8':
    case 'UINT8':
      return Buffer.from([Number(value) & 0xff]);
    case 'INT16':
    case 'UINT16':
      element.writeUInt16LE(Number(value) & 0xffff);
      return element.subarray(0, 2);
    case 'INT32':
    case 'UINT32':
      element.writeUInt32LE(Number(value) >>> 0);
      return element.subarray(0, 4);
    case 'INT64':
      element.writeBigInt64LE(BigInt(value as string));
      return element;
    case 'UINT64':
      element.writeBigUInt64LE(BigInt(value as string));
      return element;
    case 'FP32':
      element.writeFloatLE(value as number);
      return element.subarray(0, 4);
    case 'FP64':
      element.writeDoubleLE(value as number);
      return element;
    default:
      element.writeUInt32LE((value as Buffer).length);
      return Buffer.concat([element.subarray(0, 4), value as Buffer]);
  }
}
