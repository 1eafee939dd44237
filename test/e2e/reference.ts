/**
 * What ONNX Runtime itself answers: sessions in this process, over the same raw tensors that the server is given.
 *
 * Called by end-to-end tests. One thread per session, as the servers under test are told to use.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { DATATYPES, datatypeOfOrt } from '../../src/base/datatype.js';
import type { RawTensor } from './arms.js';
import { rawToStrings, stringsToRaw } from './tensor-text.js';

process.env.ORT_DISABLE_TELEMETRY = '1';
const ort = await import('onnxruntime-node');

const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  float16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

export interface Reference {
  /** Outputs in the model's order. */
  run(inputs: readonly RawTensor[]): Promise<RawTensor[]>;
  release(): Promise<void>;
}

/** A session over a model's bytes, or over a file with external weights. */
export async function createReference(model: Uint8Array | string): Promise<Reference> {
  const options: InferenceSession.SessionOptions = { intraOpNumThreads: 1 };
  const session = await (typeof model === 'string'
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options));
  return {
    async run(inputs) {
      const outputs = await session.run(Object.fromEntries(inputs.map((input) => [input.name, toOrt(input)])));
      return session.outputNames.map((name) => fromOrt(name, outputs[name]!));
    },
    release: () => session.release(),
  };
}

function toOrt({ datatype, shape, data }: RawTensor): Tensor {
  const type = DATATYPES[datatype].ortType!;
  if (type === 'string') {
    return new ort.Tensor(
      'string',
      rawToStrings(data).map((bytes) => bytes.toString()),
      shape,
    );
  }
  // A copy begins at an offset that suits every element size.
  const copy = Uint8Array.from(data).buffer;
  return new ort.Tensor(type as 'float32', new ARRAYS[type as keyof typeof ARRAYS](copy) as Float32Array, shape);
}

function fromOrt(name: string, { type, dims, data }: Tensor): RawTensor {
  const datatype = datatypeOfOrt(type)!;
  if (datatype === 'BYTES') return { name, datatype, shape: dims, data: stringsToRaw(data as string[]) };
  const { buffer, byteOffset, byteLength } = data as Float32Array;
  return { name, datatype, shape: dims, data: Buffer.from(Buffer.from(buffer, byteOffset, byteLength)) };
}
