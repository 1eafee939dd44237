/** Random valid inference requests, by a seed: as plain messages, and on the wire in any of the ways the format allows. */
import { type PlainParameter, type PlainRequest, type PlainTensor, TYPED_FIELD } from './reference-decode.js';
import { delimited, fixed32, fixed64, integer, tag, varint } from './wire.js';

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 0 <= result < 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  list<T>(max: number, make: () => T): T[] {
    return Array.from({ length: this.below(max + 1) }, make);
  }
}

const TEXTS = [
  '',
  'a',
  'INPUT0',
  'model',
  '__proto__',
  'constructor',
  'a name of more than twenty-four letters',
  'é',
  '日本語',
];
const MORE_TEXTS = ['x\u0000y', '\ufeffbom', '\u{1f600}', 'abcdefgé', 'ABCDEFGH', 'abc', 'long '.repeat(40)];
const LONGS = ['0', '1', '127', '128', '-1', '9007199254740991', '9007199254740993', '9223372036854775807'];
const ULONGS = ['0', '5', '300', '9007199254740993', '18446744073709551615'];
const INTS = [0, 1, 127, 128, -1, -128, 255, 300, 65535, 70000, 2147483647, -2147483648];
const UINTS = [0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295];
const FLOATS = [
  0,
  -0,
  1,
  -1.5,
  3.4028234663852886e38,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
  1e-45,
];

export function randomText(random: Random): string {
  return random.pick(random.below(3) === 0 ? MORE_TEXTS : TEXTS);
}

function randomParameters(random: Random): Record<string, PlainParameter> {
  const map: Record<string, PlainParameter> = Object.create(null);
  for (let count = random.below(4); count > 0; count--) {
    const choice: PlainParameter = {};
    const kind = random.below(6);
    if (kind === 0) choice.bool_param = random.below(2) === 1;
    else if (kind === 1) choice.int64_param = random.pick(LONGS);
    else if (kind === 2) choice.string_param = randomText(random);
    else if (kind === 3) choice.double_param = random.pick(FLOATS);
    else if (kind === 4) choice.uint64_param = random.pick(ULONGS);
    map[randomText(random)] = choice;
  }
  return map;
}

function randomElement(random: Random, field: string): string | number | boolean | Buffer {
  switch (field) {
    case 'bool_contents':
      return random.below(2) === 1;
    case 'int_contents':
      return random.pick(INTS);
    case 'uint_contents':
      return random.pick(UINTS);
    case 'int64_contents':
      return random.pick(LONGS);
    case 'uint64_contents':
      return random.pick(ULONGS);
    case 'bytes_contents':
      return random.bytes(random.below(random.below(4) === 0 ? 40 : 5));
    default:
      return random.pick(FLOATS);
  }
}

/** A request that our decoder must take: all inputs with raw bytes, or all with typed contents of their datatype. */
export function randomRequest(random: Random): PlainRequest {
  const typed = random.below(2) === 1;
  const inputs = random.list(5, (): PlainTensor => {
    const datatype = typed
      ? random.pick(Object.keys(TYPED_FIELD))
      : random.pick(['FP16', 'BF16', 'FP31', '', ...Object.keys(TYPED_FIELD)]);
    const field = TYPED_FIELD[datatype]!;
    return {
      name: randomText(random),
      datatype,
      shape: random.list(6, () => random.pick(LONGS)),
      parameters: randomParameters(random),
      ...(typed ? { contents: { [field]: random.list(20, () => randomElement(random, field)) } } : {}),
    };
  });
  return {
    model_name: randomText(random),
    model_version: randomText(random),
    id: randomText(random),
    parameters: randomParameters(random),
    inputs,
    outputs: random.list(4, () => ({ name: randomText(random), parameters: randomParameters(random) })),
    raw_input_contents: typed ? [] : inputs.map(() => random.bytes(random.below(50))),
  };
}

/** The request on the wire: fields in any order, repeated numbers packed, unpacked and in pieces, unknown fields between. */
export function emitRequest(random: Random, request: PlainRequest): Buffer {
  return shuffled(random, [
    [delimited(1, 'not the last'), delimited(1, request.model_name!)],
    [delimited(2, request.model_version!)],
    [delimited(3, request.id!)],
    emitParameters(random, 4, request.parameters!),
    request.inputs!.map((input) => delimited(5, emitInput(random, input))),
    request.outputs!.map((output) =>
      delimited(6, shuffled(random, [[delimited(1, output.name!)], emitParameters(random, 2, output.parameters!)])),
    ),
    request.raw_input_contents!.map((bytes) => delimited(7, bytes)),
  ]);
}

export function emitInput(random: Random, input: PlainTensor): Buffer {
  return shuffled(random, [
    [delimited(1, input.name!)],
    [delimited(2, input.datatype!)],
    emitNumbers(
      random,
      3,
      input.shape!.map((dim) => [0, varint(BigInt(dim))]),
    ),
    emitParameters(random, 4, input.parameters ?? {}),
    input.contents === undefined ? [] : emitContents(random, input.contents),
  ]);
}

function emitContents(random: Random, contents: NonNullable<PlainTensor['contents']>): Buffer[] {
  const [name, values] = Object.entries(contents)[0]!;
  const field = ['bool', 'int', 'int64', 'uint', 'uint64', 'fp32', 'fp64', 'bytes'].indexOf(name.split('_')[0]!) + 1;
  const elements =
    field === 8
      ? values.map((value) => delimited(8, value as Buffer))
      : emitNumbers(
          random,
          field,
          values.map((value) => wireNumber(field, value)),
        );
  // Several occurrences of a message field count as one message.
  const cut = random.below(elements.length + 1);
  if (random.below(4) !== 0) return [delimited(5, ...elements)];
  return [delimited(5, ...elements.slice(0, cut)), delimited(5, ...elements.slice(cut))];
}

function wireNumber(field: number, value: string | number | boolean | Buffer): [number, Buffer] {
  if (field === 6) return [5, fixed32(1, value as number).subarray(1)];
  if (field === 7) return [1, fixed64(1, value as number).subarray(1)];
  return [0, varint(BigInt(value as string | number | boolean))];
}

function emitNumbers(random: Random, field: number, values: [number, Buffer][]): Buffer[] {
  const whole = random.below(2) === 1;
  const fields: Buffer[] = [];
  for (let index = 0; index < values.length; ) {
    const run = whole ? values.length : random.below(4);
    if (run === 0) fields.push(Buffer.concat([tag(field, values[index]![0]), values[index++]![1]]));
    else {
      fields.push(delimited(field, ...values.slice(index, index + run).map(([, bytes]) => bytes)));
      index += run;
    }
    if (!whole && random.below(4) === 0) fields.push(randomUnknown(random));
  }
  return fields;
}

function emitParameters(random: Random, field: number, map: Record<string, PlainParameter>): Buffer[] {
  return Object.entries(map).map(([key, choice]) => {
    const value: Buffer[] = [];
    if (random.below(4) === 0) value.push(integer(1, 1));
    if (choice.bool_param !== undefined) value.push(integer(1, choice.bool_param ? 1 : 0));
    else if (choice.int64_param !== undefined) value.push(integer(2, BigInt(choice.int64_param)));
    else if (choice.string_param !== undefined) value.push(delimited(3, choice.string_param));
    else if (choice.double_param !== undefined) value.push(fixed64(4, choice.double_param));
    else if (choice.uint64_param !== undefined) value.push(integer(5, BigInt(choice.uint64_param)));
    return delimited(field, shuffled(random, [[delimited(1, key)], [delimited(2, ...value)]]));
  });
}

export interface MultimodalInput {
  readonly name: string;
  readonly image_bytes?: Buffer;
  readonly text?: string;
  readonly embedding?: { readonly values: number[] };
}

export interface MultimodalRequest {
  readonly model_name: string;
  readonly model_version: string;
  readonly inputs: MultimodalInput[];
  readonly parameters: Record<string, string>;
}

/** A multimodal request of which every input has a content. */
export function randomMultimodal(random: Random): MultimodalRequest {
  return {
    model_name: randomText(random),
    model_version: randomText(random),
    inputs: random.list(4, (): MultimodalInput => {
      const name = randomText(random);
      const kind = random.below(3);
      if (kind === 0) return { name, image_bytes: random.bytes(random.below(random.below(8) === 0 ? 300 : 9)) };
      if (kind === 1) return { name, text: randomText(random) };
      return { name, embedding: { values: random.list(9, () => random.pick(FLOATS)) } };
    }),
    parameters: Object.fromEntries(random.list(3, () => [randomText(random), randomText(random)])),
  };
}

/** It on the wire: fields in any order, other contents before the one that counts, embeddings packed, unpacked and in pieces. */
export function emitMultimodal(random: Random, request: MultimodalRequest): Buffer {
  return shuffled(random, [
    [delimited(1, request.model_name)],
    [delimited(2, request.model_version)],
    request.inputs.map((input) =>
      delimited(3, shuffled(random, [[delimited(1, input.name)], emitContent(random, input)])),
    ),
    Object.entries(request.parameters).map(([key, value]) => delimited(4, delimited(1, key), delimited(2, value))),
  ]);
}

function emitContent(random: Random, { image_bytes, text, embedding }: MultimodalInput): Buffer[] {
  const overruled = random.list(2, () => delimited(random.pick([2, 3]), randomText(random)));
  if (image_bytes !== undefined) return [...overruled, emitEmbedding(random, [1, 2]), delimited(2, image_bytes)];
  if (text !== undefined) return [...overruled, delimited(3, text)];
  // Messages of one field that follow each other are one; what came before another content is gone.
  const values = embedding!.values;
  const cut = random.below(values.length + 1);
  return [
    ...(random.below(2) === 0 ? [emitEmbedding(random, [9]), delimited(3, 'between')] : overruled),
    emitEmbedding(random, values.slice(0, cut)),
    ...(cut === values.length ? [] : [emitEmbedding(random, values.slice(cut))]),
  ];
}

function emitEmbedding(random: Random, values: readonly number[]): Buffer {
  const elements = values.map((value): [number, Buffer] => [5, fixed32(1, value).subarray(1)]);
  return delimited(4, ...emitNumbers(random, 1, elements));
}

/** Groups of fields in any order; the order within a group stays, as it means something there. */
export function shuffled(random: Random, groups: Buffer[][]): Buffer {
  const left = groups.filter((group) => group.length > 0).map((group) => [...group]);
  const fields: Buffer[] = [];
  while (left.length > 0) {
    const group = random.below(left.length);
    fields.push(left[group]!.shift()!);
    if (left[group]!.length === 0) left.splice(group, 1);
    if (random.below(6) === 0) fields.push(randomUnknown(random));
  }
  return Buffer.concat(fields);
}

function randomUnknown(random: Random): Buffer {
  const field = random.pick([15, 99, 536870911]);
  switch (random.below(5)) {
    case 0:
      return integer(field, BigInt(random.pick(LONGS)));
    case 1:
      return fixed32(field, 1);
    case 2:
      return fixed64(field, 1);
    case 3:
      return delimited(field, random.bytes(random.below(9)));
    default:
      return Buffer.concat([tag(field, 3), integer(1, 7), tag(2, 3), tag(2, 4), delimited(3, 'x'), tag(field, 4)]);
  }
}

/** A copy of `bytes` with a few random changes: flipped bits, bytes replaced, cut out, doubled, or the end missing. */
export function mutated(random: Random, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let changes = 1 + random.below(3); changes > 0 && result.length > 0; changes--) {
    const at = random.below(result.length);
    const kind = random.below(5);
    if (kind === 0) result[at]! ^= 1 << random.below(8);
    else if (kind === 1) result[at] = random.pick([0, 1, 7, 0x7f, 0x80, 0xff, random.below(256)]);
    else if (kind === 2) result = result.subarray(0, at);
    else {
      const end = Math.min(result.length, at + random.below(9));
      const rest = kind === 3 ? result.subarray(end) : result.subarray(at);
      result = Buffer.concat([result.subarray(0, kind === 3 ? at : end), rest]);
    }
  }
  return result;
}
