import { expect, test } from 'vitest';
import { ServeError } from '../../src/base/errors.js';
import { WireError } from '../../src/base/wire-reader.js';
import type { DecodedInfer } from '../../src/grpc/decoded-infer.js';
import { decodeModelInferRequest } from '../../src/grpc/infer-decode.js';
import { decodeMultimodalInferRequest } from '../../src/grpc/infer-decode-multimodal.js';
import { decodeModelInferRequestV1 } from '../../src/grpc/infer-decode-v1.js';
import {
  emitInput,
  emitMultimodal,
  emitRequest,
  mutated,
  Random,
  randomMultimodal,
  randomRequest,
  randomText,
  shuffled,
} from './random-request.js';
import {
  ModelInferRequest,
  ModelInferRequestV1,
  MultimodalInferRequest,
  quietNaNs,
  type Reference,
  referenceDecode,
  referenceDecodeMultimodal,
  referenceDecodeV1,
} from './reference-decode.js';
import { delimited } from './wire.js';

/** Our result in the form of the reference. */
function plain(decoded: DecodedInfer): Reference {
  const parameters = (map: DecodedInfer['parameters']) =>
    Object.fromEntries([...map].map(([key, value]) => [`key ${key}`, value]));
  return {
    modelName: decoded.modelName,
    modelVersion: decoded.modelVersion,
    id: decoded.id,
    parameters: parameters(decoded.parameters),
    inputs: decoded.inputs.map((input) => ({
      name: input.name,
      datatype: input.datatype,
      shape: [...input.shape],
      parameters: parameters(input.parameters),
      data: quietNaNs(input.datatype, input.data).toString('hex'),
      ...(input.content && { content: input.content }),
    })),
    outputs: decoded.outputs.map((output) => ({ name: output.name, parameters: parameters(output.parameters) })),
  };
}

/** These two write to the message; the other side gets it as it was sent. */
const plainV1 = (bytes: Buffer) => plain(decodeModelInferRequestV1(Buffer.from(bytes)));
const plainMultimodal = (bytes: Buffer) => plain(decodeMultimodalInferRequest(Buffer.from(bytes)));

type Outcome = { accepted: Reference } | { refused: unknown };

function attempt(decode: () => Reference): Outcome {
  try {
    return { accepted: decode() };
  } catch (error) {
    return { refused: error };
  }
}

/**
 * What protobufjs accepts and we refuse must be a rule of ours, never a claim that the bytes are malformed. There is one exception:
 * it passes over unknown varints of any length.
 */
function compare(what: string, ours: Outcome, theirs: Outcome): boolean {
  if ('accepted' in ours) {
    expect(theirs, what).toHaveProperty('accepted');
    expect(ours.accepted, what).toEqual((theirs as { accepted: Reference }).accepted);
    return true;
  }
  expect(ours.refused, what).toBeInstanceOf(ServeError);
  if ('accepted' in theirs && !(ours.refused as Error).message.includes('varint of more than 10 bytes'))
    expect(ours.refused, what).not.toBeInstanceOf(WireError);
  return false;
}

const SEEDS = 1500;
const MUTANTS = 12;

test('random requests written by protobufjs are read as protobufjs reads them', () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const request = randomRequest(new Random(seed));
    const bytes = Buffer.from(ModelInferRequest.encode(ModelInferRequest.fromObject(request)).finish());
    expect(plain(decodeModelInferRequest(bytes)), `seed ${seed}`).toEqual(referenceDecode(bytes));
  }
});

test('random requests with fields in any order, packing and company are read as protobufjs reads them', () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const bytes = emitRequest(random, randomRequest(random));
    expect(plain(decodeModelInferRequest(bytes)), `seed ${seed}`).toEqual(referenceDecode(bytes));
  }
});

test('mutated requests are refused or read as protobufjs reads them', () => {
  let accepted = 0;
  let refused = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const bytes = emitRequest(random, randomRequest(random));
    for (let mutant = 0; mutant < MUTANTS; mutant++) {
      const changed = mutated(random, bytes);
      const ours = attempt(() => plain(decodeModelInferRequest(changed)));
      const theirs = attempt(() => referenceDecode(changed));
      if (compare(`seed ${seed} mutant ${mutant}: ${changed.toString('hex')}`, ours, theirs)) accepted++;
      else refused++;
    }
  }
  // Both sides must have been seen, or nothing was compared.
  expect(accepted).toBeGreaterThan(SEEDS);
  expect(refused).toBeGreaterThan(SEEDS);
});

test('random bytes never do anything but decode or be refused', () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const bytes = random.bytes(random.below(60));
    const what = `seed ${seed}: ${bytes.toString('hex')}`;
    compare(
      what,
      attempt(() => plain(decodeModelInferRequest(bytes))),
      attempt(() => referenceDecode(bytes)),
    );
    compare(
      what,
      attempt(() => plainV1(bytes)),
      attempt(() => referenceDecodeV1(bytes)),
    );
    compare(
      what,
      attempt(() => plainMultimodal(bytes)),
      attempt(() => referenceDecodeMultimodal(bytes)),
    );
  }
});

test('random requests of inference.v1, and mutants of them, are refused or read as protobufjs reads them', () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const parameters = Object.fromEntries(random.list(4, () => [randomText(random), randomText(random)]));
    const inputs = random.list(4, () => ({
      name: randomText(random),
      datatype: randomText(random),
      shape: random.list(6, () => random.pick(['0', '1', '300', '-1', '9007199254740993'])),
      raw_contents: random.bytes(random.below(20)),
    }));
    const request = { model_name: randomText(random), model_version: randomText(random), inputs, parameters };
    const bytes = Buffer.from(ModelInferRequestV1.encode(ModelInferRequestV1.fromObject(request)).finish());
    expect(plainV1(bytes), `seed ${seed}`).toEqual(referenceDecodeV1(bytes));
    for (let mutant = 0; mutant < MUTANTS; mutant++) {
      const changed = mutated(random, bytes);
      compare(
        `seed ${seed} mutant ${mutant}: ${changed.toString('hex')}`,
        attempt(() => plainV1(changed)),
        attempt(() => referenceDecodeV1(changed)),
      );
    }
  }
});

test('random multimodal requests, in any wire form and mutated, are refused or read as protobufjs reads them', () => {
  let accepted = 0;
  let refused = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new Random(seed);
    const request = randomMultimodal(random);
    const written = Buffer.from(MultimodalInferRequest.encode(MultimodalInferRequest.fromObject(request)).finish());
    expect(plainMultimodal(written), `seed ${seed}`).toEqual(referenceDecodeMultimodal(written));
    const bytes = emitMultimodal(random, request);
    expect(plainMultimodal(bytes), `seed ${seed}`).toEqual(referenceDecodeMultimodal(bytes));
    for (let mutant = 0; mutant < MUTANTS; mutant++) {
      const changed = mutated(random, bytes);
      const ours = attempt(() => plainMultimodal(changed));
      const theirs = attempt(() => referenceDecodeMultimodal(changed));
      if (compare(`seed ${seed} mutant ${mutant}: ${changed.toString('hex')}`, ours, theirs)) accepted++;
      else refused++;
    }
  }
  expect(accepted).toBeGreaterThan(SEEDS);
  expect(refused).toBeGreaterThan(SEEDS);
});

test('a large tensor with each typed field in pieces is read as protobufjs reads it', () => {
  const random = new Random(7);
  const wide = (field: string, datatype: string, value: (index: number) => string | number | boolean) => {
    const values = Array.from({ length: 3000 }, (_, index) => value(index));
    const tensor = { name: 'X', datatype, shape: ['3000'], contents: { [field]: values } };
    return delimited(5, emitInput(random, tensor));
  };
  const bytes = shuffled(random, [
    [
      wide('int_contents', 'INT32', (index) => Math.imul(index, 2654435761) | 0),
      wide('int_contents', 'INT16', (index) => Math.imul(index, 40503) | 0),
      wide('uint_contents', 'UINT8', (index) => index % 256),
      wide('int64_contents', 'INT64', (index) => String(BigInt.asIntN(64, BigInt(index) * 0x9e3779b97f4a7c15n))),
      wide('bool_contents', 'BOOL', (index) => index % 3 === 0),
      wide('fp32_contents', 'FP32', (index) => Math.fround(index * 1.1)),
      wide('fp64_contents', 'FP64', (index) => index * 1.1),
    ],
  ]);
  expect(plain(decodeModelInferRequest(bytes))).toEqual(referenceDecode(bytes));
});
