import { type Case, expectAnswer, grpcCase, INVALID, NOT_FOUND, OK, special } from './case.js';
import {
  delimited,
  fp32,
  goodInfer,
  goodInferV1,
  infer,
  inferV1,
  parameter,
  raw,
  simpleInputs,
  tensor,
  tensorV1,
  textValue,
} from './message.js';
import { INFER_V1 } from './world.js';

const SIXTEEN = Buffer.alloc(64);
const V1 = { path: INFER_V1 };

const simple = (...fields: Uint8Array[]): Buffer => infer('simple', ...fields);
/** Model `id_fp32`: FP32 [batch, n]. */
const floats = (shape: readonly (number | bigint)[], bytes: Uint8Array): Buffer =>
  infer('id_fp32', tensor('INPUT0', 'FP32', shape), raw(bytes));

const names: readonly Case[] = [
  grpcCase('I1', 'an empty model name', () => infer(''), INVALID, /model name/),
  grpcCase('I1', 'an empty model name, inference.v1', () => inferV1(''), INVALID, /model name/, V1),
  grpcCase('I2', 'an unknown model', () => infer('gone'), NOT_FOUND, /unknown model: 'gone'/),
  grpcCase('I2', 'an unknown model, inference.v1', () => inferV1('gone'), NOT_FOUND, /'gone'/, V1),
  grpcCase('I2', 'a model named __proto__', () => infer('__proto__'), NOT_FOUND, /'__proto__'/),
  ...['../simple', '/etc/passwd', 'simple/1', '..', 'simple/../simple', 'file:simple'].map((name) =>
    special('I3', `model name ${name} (gRPC)`, async (world) => {
      expectAnswer(await world.grpc(infer(name)), { status: NOT_FOUND, says: /unknown model/, echo: name });
    }),
  ),
  grpcCase(
    'I4',
    'a model name of 1 MB',
    () => infer('x'.repeat(1_000_000)),
    INVALID,
    /^model name .{1,120}'x{64}\.\.\.'$/,
  ),
  grpcCase('I5', 'control characters in the model name', () => infer('a\r\nb\u001b[1m\0'), INVALID, /'a\?\?b\?\[1m\?'/),
  grpcCase(
    'I5',
    'control characters in an input name',
    () => simple(tensor('a\n\0', 'INT32', [1, 16]), raw(SIXTEEN)),
    INVALID,
    /'a\?\?'/,
  ),
  grpcCase('I5', 'control characters in the id', () => goodInfer(delimited(3, 'a\r\n\0b')), OK),
  grpcCase('I5', 'control characters in a parameter', () => goodInfer(parameter('a\n', textValue('\0'))), OK),
  ...['abc', '-1', '0', '01', '1e3', ' 1', '1 ', '9'.repeat(20), '١'].map((version) =>
    grpcCase('I6', `version '${version}'`, () => goodInfer(delimited(2, version)), INVALID, /version/),
  ),
  grpcCase('I6', 'version abc, inference.v1', () => goodInferV1(delimited(2, 'abc')), INVALID, /version/, V1),
  grpcCase('I6', 'a version that is not there', () => goodInfer(delimited(2, '7')), NOT_FOUND, /version 7/),
];

const inputs: readonly Case[] = [
  grpcCase('I9', 'no inputs', () => simple(), INVALID, /expected 2 inputs but got 0.*'INPUT0'.*'INPUT1'/),
  grpcCase('I9', 'no inputs, inference.v1', () => inferV1('simple'), INVALID, /expected 2 inputs but got 0/, V1),
  grpcCase(
    'I10',
    'one input missing',
    () => simple(tensor('INPUT0', 'INT32', [1, 16]), raw(SIXTEEN)),
    INVALID,
    /Got input\(s\) \['INPUT0'\], but missing required input\(s\) \['INPUT1'\]/,
  ),
  grpcCase(
    'I11',
    'an input too many',
    () => simple(...simpleInputs(), tensor('EXTRA', 'INT32', [1, 16]), raw(SIXTEEN), raw(SIXTEEN), raw(SIXTEEN)),
    INVALID,
    /unexpected inference input 'EXTRA' for model 'simple'/,
  ),
  grpcCase(
    'I12',
    'an input twice',
    () => simple(...simpleInputs(), tensor('INPUT1', 'INT32', [1, 16]), raw(SIXTEEN), raw(SIXTEEN), raw(SIXTEEN)),
    INVALID,
    /'INPUT1' already exists/,
  ),
  grpcCase(
    'I12',
    'an input twice, inference.v1',
    () => goodInferV1(tensorV1('INPUT1', 'INT32', [1, 16], SIXTEEN)),
    INVALID,
    /'INPUT1' already exists/,
    V1,
  ),
  grpcCase(
    'I13',
    'an input without a name',
    () => simple(tensor('', 'INT32', [1, 16]), raw(SIXTEEN)),
    INVALID,
    /unexpected inference input ''/,
  ),
  grpcCase(
    'I14',
    'an input name of 65 KB',
    () => simple(tensor('n'.repeat(65_000), 'INT32', [1, 16]), raw(SIXTEEN)),
    INVALID,
    /65000 bytes long, at most 256/,
  ),
  ...['FP31', '', 'fp32', 'FLOAT', 'TYPE_FP32', '__proto__'].map((datatype) =>
    grpcCase(
      'I15',
      `datatype '${datatype}'`,
      () => infer('id_fp32', tensor('INPUT0', datatype, [1, 1]), raw(fp32(1))),
      INVALID,
      /'INPUT0'.*expects 'FP32'/,
    ),
  ),
  grpcCase(
    'I15',
    'datatype FP31, inference.v1',
    () => inferV1('id_fp32', tensorV1('INPUT0', 'FP31', [1, 1], fp32(1))),
    INVALID,
    /'INPUT0'.*'FP31'.*expects 'FP32'/,
    V1,
  ),
  grpcCase(
    'I16',
    'BF16 for a model of FP32',
    () => infer('id_fp32', tensor('INPUT0', 'BF16', [1, 2]), raw(Buffer.alloc(4))),
    INVALID,
    /'BF16'.*expects 'FP32'/,
  ),
];

const shapes: readonly Case[] = [
  grpcCase('I20', 'a negative dimension', () => floats([1, -1], fp32(1)), INVALID, /'INPUT0'.*\[1,-1\]/),
  grpcCase('I20', 'a negative batch', () => floats([-1, 1], fp32(1)), INVALID, /'INPUT0'.*\[-1,1\]/),
  grpcCase('I20', 'the least dimension', () => floats([1, -(2n ** 63n)], fp32(1)), INVALID, /'INPUT0'/),
  grpcCase('I21', 'a zero dimension where the model takes any', () => floats([1, 0], Buffer.alloc(0)), OK),
  grpcCase(
    'I21',
    'a zero dimension that the model has',
    () => infer('empty', tensor('INPUT0', 'FP32', [1, 0, 4]), raw(Buffer.alloc(0))),
    OK,
  ),
  grpcCase('I21', 'a zero batch', () => floats([0, 1], Buffer.alloc(0)), INVALID, /'INPUT0'.*batch/),
  grpcCase(
    'I21',
    'a zero dimension where the model has a fixed one',
    () => infer('fixed', tensor('INPUT0', 'FP32', [0, 3]), raw(Buffer.alloc(0))),
    INVALID,
    /Expected \[2,3\], got \[0,3\]/,
  ),
  grpcCase('I22', 'no shape', () => floats([], fp32(1)), INVALID, /'INPUT0' has no shape/),
  grpcCase(
    'I22',
    'no shape, inference.v1',
    () => inferV1('id_fp32', tensorV1('INPUT0', 'FP32', [], fp32(1))),
    INVALID,
    /'INPUT0' has no shape/,
    V1,
  ),
  grpcCase(
    'I22',
    'no shape for a model without a batch',
    () => infer('vector', tensor('INPUT0', 'FP32', []), raw(fp32(1))),
    INVALID,
    /Expected \[-1\], got \[\]/,
  ),
  // As Triton completes such a model: a scalar is [1] for clients.
  grpcCase(
    'I22',
    'no shape for a scalar',
    () => infer('scalar', tensor('INPUT0', 'FP32', []), raw(fp32(1))),
    INVALID,
    /Expected \[1\], got \[\]/,
  ),
  grpcCase('I22', 'shape [1] for a scalar', () => infer('scalar', tensor('INPUT0', 'FP32', [1]), raw(fp32(1))), OK),
  ...(
    [
      [2n ** 4n, 2n ** 60n + 2n],
      [2n ** 32n, 2n ** 32n],
      [1, 2n ** 53n + 1n],
      [1, 2n ** 63n - 1n],
      [2n ** 62n, 4],
      [1, 2n ** 61n],
      [1, 2n ** 62n + 1n],
    ] as const
  ).map((shape) => grpcCase('I23', `shape [${shape.join(', ')}]`, () => floats(shape, fp32(1)), INVALID, /'INPUT0'/)),
  grpcCase(
    'I23',
    'shape [2^4, 2^60+2], inference.v1',
    () => inferV1('id_fp32', tensorV1('INPUT0', 'FP32', [16, 2n ** 60n + 2n], fp32(1))),
    INVALID,
    /'INPUT0'/,
    V1,
  ),
  grpcCase(
    'I23',
    'a product that is 0 by one dimension and beyond 2^64 without',
    () => floats([1, 0], Buffer.alloc(4)),
    INVALID,
    /Expected 0, got 4/,
  ),
  grpcCase(
    'I24',
    'a dimension too many',
    () => floats([1, 1, 1], fp32(1)),
    INVALID,
    /Expected \[-1,-1\], got \[1,1,1\]/,
  ),
  grpcCase(
    'I25',
    'a batch above the maximum',
    () => {
      const bytes = Buffer.alloc(9 * 64);
      const input = (name: string) => tensor(name, 'INT32', [9, 16]);
      return simple(input('INPUT0'), input('INPUT1'), raw(bytes), raw(bytes));
    },
    INVALID,
    /batch-size must be <= 8 for 'simple'/,
  ),
  grpcCase(
    'I26',
    'two batch sizes',
    () =>
      simple(
        tensor('INPUT0', 'INT32', [1, 16]),
        tensor('INPUT1', 'INT32', [2, 16]),
        raw(SIXTEEN),
        raw(Buffer.alloc(128)),
      ),
    INVALID,
    /'INPUT1' batch size does not match/,
  ),
];

export const grpcShapeCases: readonly Case[] = [...names, ...inputs, ...shapes];
