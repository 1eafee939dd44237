import { type Case, expectAnswer, restCase, special } from './case.js';
import { binary, binaryInput, one } from './json-request.js';
import { goodJson } from './message.js';

const BAD = 400;

const names: readonly Case[] = [
  restCase('I1', 'an empty model name', '/v2/models//infer', goodJson, 404),
  restCase('I2', 'an unknown model', 'gone', goodJson, 404, /unknown model: 'gone'/),
  restCase('I2', 'a model named __proto__', '__proto__', goodJson, 404, /'__proto__'/),
  special('I3', 'a model name that climbs directories (REST)', async (world) => {
    const answer = await world.rest('/v2/models/..%2fsimple/infer', goodJson());
    expectAnswer(answer, { status: 404, says: /unknown model/, echo: '../simple' });
  }),
  restCase('I3', 'a path that climbs', '/v2/models/x/../simple/infer', goodJson, 200),
  restCase(
    'I3',
    'a model name that is half of an escape',
    '/v2/models/simple%2/infer',
    goodJson,
    BAD,
    /malformed path/,
  ),
  restCase('I4', 'a model name of 10 KB', 'x'.repeat(10_000), goodJson, [404, 414, 431], /x{64}\.\.\.|too l/),
  restCase('I4', 'a model name of 1 MB', 'x'.repeat(1_000_000), goodJson, [414, 431]),
  restCase(
    'I5',
    'control characters in the model name',
    '/v2/models/a%0d%0ab%1b%00/infer',
    goodJson,
    BAD,
    /'a\?\?b\?\?'/,
  ),
  restCase('I5', 'control characters in the id', 'simple', () => goodJson({ id: 'a\r\n\0b' }), 200),
  restCase('I5', 'control characters in an input name', 'simple', () => goodJson({}, { name: 'a\n' }), BAD, /'a\?'/),
  ...['abc', '-1', '0', '01', '1e3', '%201', '9'.repeat(20)].map((version) =>
    restCase('I6', `version ${version}`, `/v2/models/simple/versions/${version}/infer`, goodJson, BAD, /version/),
  ),
  restCase('I6', 'a version that is not there', '/v2/models/simple/versions/7/infer', goodJson, 404, /version 7/),
];

const tensors: readonly Case[] = [
  restCase('I9', 'no inputs', 'simple', () => ({ inputs: [] }), BAD, /expected 2 inputs but got 0/),
  restCase('I9', 'no member for inputs', 'simple', () => ({}), BAD, /expected 2 inputs but got 0/),
  restCase(
    'I10',
    'one input missing',
    'simple',
    () => ({ inputs: [goodJson().inputs].flat().slice(0, 1) }),
    BAD,
    /missing required input\(s\) \['INPUT1'\]/,
  ),
  restCase(
    'I11',
    'an input too many',
    'id_fp32',
    () => ({ inputs: [one(), one({ name: 'EXTRA' })].flatMap((each) => (each as { inputs: object[] }).inputs) }),
    BAD,
    /unexpected inference input 'EXTRA' for model 'id_fp32'/,
  ),
  restCase(
    'I12',
    'an input twice',
    'id_fp32',
    () => ({ inputs: [one(), one()].flatMap((each) => (each as { inputs: object[] }).inputs) }),
    BAD,
    /'INPUT0' already exists/,
  ),
  restCase(
    'I13',
    'an input with an empty name',
    'id_fp32',
    () => one({ name: '' }),
    BAD,
    /unexpected inference input ''/,
  ),
  restCase('I13', 'an input without a name', 'id_fp32', () => one({ name: undefined }), BAD, /input without 'name'/),
  restCase('I13', 'an input whose name is a number', 'id_fp32', () => one({ name: 5 }), BAD, /input name/),
  restCase(
    'I14',
    'an input name of 65 KB',
    'id_fp32',
    () => one({ name: 'n'.repeat(65_000) }),
    BAD,
    /65000 bytes is longer than 256/,
  ),
  ...['FP31', '', 'fp32', 'FLOAT', '__proto__'].map((datatype) =>
    restCase('I15', `datatype '${datatype}'`, 'id_fp32', () => one({ datatype }), BAD, /datatype.*'INPUT0'/),
  ),
  restCase('I15', 'no datatype', 'id_fp32', () => one({ datatype: undefined }), BAD, /input without 'datatype'/),
  restCase(
    'I15',
    'another datatype',
    'id_fp32',
    () => one({ datatype: 'INT32' }),
    BAD,
    /'INPUT0'.*'INT32'.*expects 'FP32'/,
  ),
  binary(
    'I15',
    'datatype FP31',
    'id_fp32',
    binaryInput(8, { datatype: 'FP31' }),
    Buffer.alloc(8),
    BAD,
    /'INPUT0'.*expects 'FP32'/,
  ),
  restCase('I16', 'BF16 in JSON', 'id_fp32', () => one({ datatype: 'BF16' }), BAD, /BF16.*INPUT0/),
  binary(
    'I16',
    'BF16',
    'id_fp32',
    binaryInput(4, { datatype: 'BF16' }),
    Buffer.alloc(4),
    BAD,
    /'BF16'.*expects 'FP32'/,
  ),
];

const shape = (row: string, dims: unknown, says: RegExp, status = BAD): Case =>
  restCase(row, `shape ${JSON.stringify(dims)}`, 'id_fp32', () => one({ shape: dims }), status, says);

const shapes: readonly Case[] = [
  shape('I20', [1, -1], /shape/i),
  shape('I20', [-1, 2], /shape/i),
  restCase('I21', 'a zero dimension where the model takes any', 'id_fp32', () => one({ shape: [1, 0], data: [] }), 200),
  restCase('I21', 'a zero batch', 'id_fp32', () => one({ shape: [0, 2], data: [] }), BAD, /'INPUT0'.*batch/),
  restCase('I22', 'no shape', 'id_fp32', () => one({ shape: undefined }), BAD, /input without 'shape'/),
  restCase('I22', 'an empty shape', 'id_fp32', () => one({ shape: [], data: [1] }), BAD, /'INPUT0' has no shape/),
  shape('I22', [1, '2'], /shape/),
  shape('I22', [1, 2.5], /shape/),
  shape('I22', [1, Number.MAX_VALUE], /shape/i),
  shape('I22', 2, /shape/),
  shape('I22', [[1, 2]], /shape/),
  shape('I22', { 0: 1 }, /shape/),
  shape('I22', new Array(17).fill(1), /more than 16 dimensions/),
  ...[
    '[16,1152921504606846978]',
    '[4294967296,4294967296]',
    '[1,9007199254740993]',
    '[1,9223372036854775807]',
    '[1,99999999999999999999]',
  ].flatMap((dims) => [
    restCase(
      'I23',
      `shape ${dims}`,
      'id_fp32',
      () => `{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":${dims},"data":[1]}]}`,
      BAD,
      /shape/i,
    ),
    restCase(
      'I23',
      `shape ${dims}, data first`,
      'id_fp32',
      () => `{"inputs":[{"name":"INPUT0","data":[1],"shape":${dims},"datatype":"FP32"}]}`,
      BAD,
      /shape/i,
    ),
  ]),
  binary(
    'I23',
    'a shape whose product overflows',
    'id_fp32',
    binaryInput(4, { shape: [2 ** 32, 2 ** 32] }),
    Buffer.alloc(4),
    BAD,
    /'INPUT0'/,
  ),
  restCase(
    'I24',
    'a dimension too many',
    'id_fp32',
    () => one({ shape: [1, 1, 2] }),
    BAD,
    /Expected \[-1,-1\], got \[1,1,2\]/,
  ),
  restCase(
    'I25',
    'a batch above the maximum',
    'id_fp32',
    () => one({ shape: [99, 1], data: new Array(99).fill(1) }),
    BAD,
    /batch-size must be <= \d+ for 'id_fp32'/,
  ),
  restCase(
    'I26',
    'two batch sizes',
    'simple',
    () => goodJson({}, { shape: [2, 16], data: new Array(32).fill(1) }),
    BAD,
    /'INPUT1' batch size does not match/,
  ),
];

export const restShapeCases: readonly Case[] = [...names, ...tensors, ...shapes];
