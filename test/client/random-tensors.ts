/** Random tensors of every datatype, by a seed, and what protobufjs wants to hear to say the same. */
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import { byteView, isBytesData, viewOf } from '../../src/client/tensor.js';
import type { InferRequest, InputTensor, ParameterValue, TensorData } from '../../src/client/types.js';
import { type Random, randomText } from '../grpc/random-request.js';
import type { PlainParameter, PlainTensor } from '../grpc/reference-decode.js';

export const ALL = Object.keys(DATATYPES) as Datatype[];
export const TYPED = ALL.filter((datatype) => datatype !== 'FP16' && datatype !== 'BF16');

export const FIELD: Readonly<Partial<Record<Datatype, string>>> = {
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

/** Data whose numbers have any number of bits, at any address that their size allows. */
export function randomData(random: Random, datatype: Datatype, count: number): TensorData {
  if (datatype === 'BYTES') {
    return Array.from({ length: count }, () =>
      random.below(2) === 0 ? randomText(random) : random.bytes(random.below(300)),
    );
  }
  const { byteSize } = DATATYPES[datatype];
  const data = viewOf(datatype, new ArrayBuffer((count + 2) * byteSize), random.below(3) * byteSize, count);
  for (let index = 0; index < count; index++) {
    const bits = random.bytes(8).readBigUInt64LE() >> BigInt(random.below(64));
    const value = random.below(2) === 0 ? bits : -bits;
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[index] = value;
    else if (datatype === 'BOOL') data[index] = Number(bits & 1n);
    else if (data instanceof Float32Array || data instanceof Float64Array)
      data[index] = Number(value) * 2 ** -random.below(60);
    else data[index] = Number(BigInt.asIntN(32, value));
  }
  return data;
}

export function randomTensor(
  random: Random,
  datatypes: readonly Datatype[],
): InputTensor & { readonly datatype: Datatype } {
  const datatype = random.pick(datatypes);
  const shape = random.below(5) === 0 ? [130] : random.list(3, () => random.pick([0, 1, 1, 2, 3, 5]));
  const count = shape.reduce((product, dim) => product * dim, 1);
  return { name: randomText(random) || 'x', datatype, shape, data: randomData(random, datatype, count) };
}

function randomParameters(random: Random): Record<string, ParameterValue> | undefined {
  if (random.below(2) === 0) return undefined;
  const values: ParameterValue[] = [
    true,
    false,
    0,
    1,
    -1,
    1.5,
    -0,
    2 ** 53,
    300,
    2n ** 63n,
    -(2n ** 63n),
    2n ** 64n - 1n,
    '',
    'texté',
  ];
  return Object.fromEntries(random.list(4, () => [randomText(random) || 'key', random.pick(values)]));
}

export function randomInfer(random: Random, datatypes: readonly Datatype[]): InferRequest {
  const parameters = randomParameters(random);
  return {
    model: randomText(random) || 'm',
    ...(random.below(2) === 0 ? { version: randomText(random) } : {}),
    ...(random.below(2) === 0 ? { id: randomText(random) } : {}),
    ...(parameters === undefined ? {} : { parameters }),
    ...(random.below(2) === 0
      ? {
          outputs: random.list(3, () =>
            random.pick(['y', { name: 'z' }, { name: 'classes', classification: random.below(300) + 1 }]),
          ),
        }
      : {}),
    inputs: random.list(4, () => randomTensor(random, datatypes)),
  };
}

export function rawOf(data: TensorData): Buffer {
  if (!isBytesData(data)) return Buffer.from(byteView(data));
  return Buffer.concat(
    data.flatMap((element) => {
      const bytes = Buffer.from(element as string);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** Elements as protobufjs takes them. */
export function plainElements(data: TensorData, datatype: Datatype): (string | number | boolean | Buffer)[] {
  if (isBytesData(data)) return data.map((element) => Buffer.from(element as string));
  return Array.from(data as ArrayLike<number | bigint>, (value) =>
    datatype === 'BOOL' ? value !== 0 : typeof value === 'bigint' ? value.toString() : value,
  );
}

export function plainTensor(
  { name, datatype, shape, data }: InputTensor & { readonly datatype?: Datatype },
  typed: boolean,
): PlainTensor {
  const elements = plainElements(data, datatype!);
  const contents = elements.length === 0 ? {} : { [FIELD[datatype!]!]: elements };
  return {
    name,
    datatype: datatype!,
    shape: shape.map(String),
    ...(typed ? { contents } : {}),
  };
}

export function plainParameter(value: ParameterValue): PlainParameter {
  if (typeof value === 'boolean') return { bool_param: value };
  if (typeof value === 'string') return { string_param: value };
  if (typeof value === 'number' && (!Number.isSafeInteger(value) || Object.is(value, -0)))
    return { double_param: value };
  return BigInt(value) >= 2n ** 63n ? { uint64_param: String(value) } : { int64_param: String(value) };
}
