import { describe, expect, test } from 'vitest';
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import { ServeError } from '../../src/base/errors.js';
import { JsonWriter } from '../../src/base/json-writer.js';
import type { JsonInferRequest } from '../../src/base/tensor-json.js';
import { parseInferRequest } from '../../src/base/tensor-json-parse.js';
import { printInferResponse } from '../../src/base/tensor-json-print.js';
import { createRandom, randomTensor } from './random-tensor.js';

const writer = new JsonWriter(256);

function parse(text: string | Uint8Array): JsonInferRequest {
  return parseInferRequest(typeof text === 'string' ? Buffer.from(text) : text);
}

function input(datatype: string, shape: unknown, data: string): string {
  return `{"inputs":[{"name":"X","shape":${JSON.stringify(shape)},"datatype":"${datatype}","data":${data}}]}`;
}

function dataOf(datatype: string, shape: unknown, data: string): Uint8Array<ArrayBuffer> {
  return parse(input(datatype, shape, data)).inputs[0]!.data!;
}

/** The message of the INVALID_ARGUMENT that `run` throws. */
function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ServeError);
    expect((error as ServeError).code).toBe('INVALID_ARGUMENT');
    return (error as ServeError).message;
  }
  throw new Error('was accepted');
}

function print(datatype: Datatype, data: Uint8Array, id = ''): string {
  const outputs = [{ name: 'Y', datatype, shape: [1], data, binaryDataSize: 0 }];
  return printInferResponse({ id, modelName: 'm', modelVersion: '1', outputs }, writer).toString();
}

/** The text between the brackets of the printed data. */
function printed(datatype: Datatype, data: Uint8Array): string {
  return /"data":\[(.*)\]\}\]\}$/s.exec(print(datatype, data))![1]!;
}

const bytes = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

describe('the envelope', () => {
  test('carries id, parameters, inputs and outputs', () => {
    const request = parse(
      `{"id":"a\\u00e9b","parameters":{"i":-3,"f":1.5,"b":true,"s":"x\\n","big":9223372036854775807},
        "inputs":[{"name":"X","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}],
        "outputs":[{"name":"Y","parameters":{"binary_data":true}},{"name":"Z"}]}`,
    );
    expect(request.id).toBe('aéb');
    expect([...request.parameters]).toEqual([
      ['i', -3],
      ['f', 1.5],
      ['b', true],
      ['s', 'x\n'],
      ['big', 9223372036854775807n],
    ]);
    expect(request.inputs[0]).toMatchObject({ name: 'X', shape: [2], datatype: 'INT32', data: undefined });
    expect(request.outputs.map((output) => output.name)).toEqual(['Y', 'Z']);
    expect(request.outputs[0]!.parameters.get('binary_data')).toBe(true);
  });

  test('takes data before datatype and shape, and unknown members of any kind', () => {
    const request = parse(
      '{"extra":[{"a":[1,null,NaN,"\\u00ff",{}]}],"inputs":[{"data":[[1,2],[3,4]],"x":{},"datatype":"UINT8","shape":[2,2],"name":"X"}]}',
    );
    expect([...request.inputs[0]!.data!]).toEqual([1, 2, 3, 4]);
  });

  test('takes the last of duplicate members, also when it changes how data reads', () => {
    const request = parse(
      '{"id":"a","id":"b","inputs":[{"name":"X","datatype":"INT8","shape":[2],"data":[1,2],"data":[3,4],"datatype":"INT16"}]}',
    );
    expect(request.id).toBe('b');
    expect([...request.inputs[0]!.data!]).toEqual([3, 0, 4, 0]);
  });

  test('keeps __proto__ as an ordinary name', () => {
    const request = parse('{"__proto__":{"x":1},"parameters":{"__proto__":1},"inputs":[]}');
    expect([...request.parameters]).toEqual([['__proto__', 1]]);
    expect(Object.hasOwn(Object.prototype, 'x')).toBe(false);
  });

  test.each([
    ['', 'empty body'],
    ['[]', 'array'],
    ['null', 'null'],
    ['"x"', 'string'],
    ['1', 'number'],
    ['{', 'unfinished'],
    ['{}x', 'text behind'],
    ['{"id":"a",}', 'trailing comma'],
    ['{"id" "a"}', 'missing colon'],
    ["{'id':'a'}", 'single quotes'],
    ['{"a":01}', 'leading zero'],
    ['{"a":.5}', 'no digit before the point'],
    ['{"a":1.}', 'no digit behind the point'],
    ['{"a":1e}', 'no exponent digit'],
    ['{"a":+1}', 'plus'],
    ['{"a":-NaN}', 'negative NaN'],
    ['{"a":truex}', 'word runs on'],
    ['{"a":1 /* c */}', 'comment'],
    ['{"a":"\t"}', 'control character'],
    ['{"a":"\\x"}', 'unknown escape'],
    ['{"a":"\\u12g4"}', 'bad hex'],
    ['{"a":"\\ud800"}', 'lone high surrogate'],
    ['{"a":"\\udc00\\ud800"}', 'lone low surrogate'],
    ['\ufeff{}', 'byte order mark'],
    ['{"id":5}', 'id is no string'],
    ['{"inputs":{}}', 'inputs is no array'],
    ['{"inputs":[5]}', 'input is no object'],
    ['{"inputs":[{"datatype":"INT8","shape":[1]}]}', 'no name'],
    ['{"inputs":[{"name":"X","shape":[1]}]}', 'no datatype'],
    ['{"inputs":[{"name":"X","datatype":"INT8"}]}', 'no shape'],
    ['{"outputs":[{}]}', 'output without name'],
    ['{"parameters":{"a":null}}', 'null parameter'],
    ['{"parameters":{"a":{}}}', 'object parameter'],
    ['{"parameters":{"a":NaN}}', 'NaN parameter'],
    ['{"parameters":{"a":18446744073709551616}}', 'parameter past 64 bits'],
  ])('refuses %s (%s)', (text) => {
    refusal(() => parse(text));
  });

  test('refuses bytes that are not UTF-8', () => {
    expect(refusal(() => parse(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)))).toContain('UTF-8');
  });

  test.each([
    ['[-1]', 'non-unsigned-integer'],
    ['[1.5]', 'non-unsigned-integer'],
    ['["1"]', 'non-unsigned-integer'],
    ['[1e2]', 'non-unsigned-integer'],
    ['[99999999999999999999]', 'non-unsigned-integer'],
    [`[${'1,'.repeat(16)}1]`, 'more than 16 dimensions'],
  ])('refuses shape %s', (shape, text) => {
    expect(refusal(() => parse(`{"inputs":[{"name":"X","datatype":"INT8","shape":${shape},"data":[1]}]}`))).toContain(
      text,
    );
  });

  test('refuses nesting past 100, at once and without entering it', () => {
    const nested = (depth: number): string => `{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`;
    parse(nested(99));
    expect(refusal(() => parse(nested(100)))).toContain('nesting deeper than 100');
    expect(refusal(() => parse(Buffer.alloc(4_000_000, '{"a":'.repeat(100))))).toContain('nesting deeper than 100');
    expect(refusal(() => parse(Buffer.alloc(16_000_000, '[')))).toContain('expected an object');
  });

  test('holds its caps at the bound and refuses one more', () => {
    const inputs = (count: number): string =>
      `{"inputs":[${Array(count).fill('{"name":"X","datatype":"INT8","shape":[0]}')}]}`;
    expect(parse(inputs(256)).inputs).toHaveLength(256);
    expect(refusal(() => parse(inputs(257)))).toContain('more than 256 inputs');
    const outputs = (count: number): string => `{"outputs":[${Array(count).fill('{"name":"Y"}')}]}`;
    expect(parse(outputs(256)).outputs).toHaveLength(256);
    expect(refusal(() => parse(outputs(257)))).toContain('more than 256 outputs');
    const parameters = (count: number): string =>
      `{"parameters":{${Array.from({ length: count }, (_, i) => `"p${i}":1`)}}}`;
    expect(parse(parameters(128)).parameters.size).toBe(128);
    expect(refusal(() => parse(parameters(129)))).toContain('more than 128 parameters');
    const named = (length: number): string => `{"outputs":[{"name":"${'n'.repeat(length)}"}]}`;
    expect(parse(named(256)).outputs[0]!.name).toHaveLength(256);
    expect(refusal(() => parse(named(257)))).toContain('longer than 256');
  });
});

describe('tensor data', () => {
  test.each<[string, number[], string, ArrayBufferView]>([
    ['INT8', [2], '[-128,127]', Int8Array.of(-128, 127)],
    ['INT16', [2], '[-32768,32767]', Int16Array.of(-32768, 32767)],
    ['INT32', [3], '[-2147483648,2147483647,-0]', Int32Array.of(-2147483648, 2147483647, 0)],
    ['UINT8', [2], '[0,255]', Uint8Array.of(0, 255)],
    ['UINT16', [1], '[65535]', Uint16Array.of(65535)],
    ['UINT32', [1], '[4294967295]', Uint32Array.of(4294967295)],
    [
      'INT64',
      [5],
      '[9007199254740993,-9007199254740993,9223372036854775807,-9223372036854775808,-1]',
      BigInt64Array.of(9007199254740993n, -9007199254740993n, 2n ** 63n - 1n, -(2n ** 63n), -1n),
    ],
    ['UINT64', [2], '[18446744073709551615,9007199254740993]', BigUint64Array.of(2n ** 64n - 1n, 9007199254740993n)],
    ['BOOL', [4], '[true,false,1,0]', Uint8Array.of(1, 0, 1, 0)],
    [
      'FP32',
      [6],
      '[1,-0.5,NaN,Infinity,-Infinity,1e-45]',
      Float32Array.of(1, -0.5, Number.NaN, Infinity, -Infinity, 1e-45),
    ],
    ['FP64', [3], '[0.1,-0.0,5e-324]', Float64Array.of(0.1, -0, 5e-324)],
    ['BYTES', [3], '["a","","\\u00e9\\ud83d\\ude00"]', Buffer.from('\x01\0\0\0a\0\0\0\0\x06\0\0\0é😀')],
    ['FP32', [2, 2], ' [ [ 1 , 2 ] , [ 3 , 4 ] ] ', Float32Array.of(1, 2, 3, 4)],
    ['FP32', [2, 1, 2], '[[[1,2]],[[3,4]]]', Float32Array.of(1, 2, 3, 4)],
    ['FP32', [2, 2], '[1,2,3,4]', Float32Array.of(1, 2, 3, 4)],
    ['FP32', [], '[7]', Float32Array.of(7)],
    ['FP32', [0], '[]', new Float32Array(0)],
    ['FP32', [2, 0], '[[],[]]', new Float32Array(0)],
    ['FP32', [2, 0], '[]', new Float32Array(0)],
    ['FP32', [0, 3], '[]', new Float32Array(0)],
  ])('%s %j from %s', (datatype, shape, text, expected) => {
    expect(Buffer.from(dataOf(datatype, shape, text)).toString('hex')).toBe(
      Buffer.from(bytes(expected)).toString('hex'),
    );
  });

  test.each([
    ['INT8', '300'],
    ['INT8', '-129'],
    ['UINT8', '-1'],
    ['UINT8', '256'],
    ['INT32', '2147483648'],
    ['INT32', '1.5'],
    ['INT32', '1.0'],
    ['INT32', '1e3'],
    ['INT32', '"3"'],
    ['INT32', 'true'],
    ['INT32', 'null'],
    ['INT32', '01'],
    ['INT32', '-'],
    ['INT64', '9223372036854775808'],
    ['INT64', '-9223372036854775809'],
    ['INT64', '1'.repeat(5000)],
    ['UINT64', '18446744073709551616'],
    ['UINT64', '-1'],
    ['BOOL', '2'],
    ['BOOL', '"true"'],
    ['BOOL', 'truely'],
    ['FP32', '"1.0"'],
    ['FP32', '1e39'],
    ['FP32', '.5'],
    ['FP32', '1.'],
    ['FP32', '01'],
    ['FP32', 'Inf'],
    ['FP32', '{}'],
    ['FP64', '1e309'],
    ['BYTES', '5'],
    ['BYTES', '"\\ud800"'],
    ['FP31', '1'],
    ['fp32', '1'],
    ['', '1'],
  ])('%s refuses %s', (datatype, text) => {
    expect(refusal(() => dataOf(datatype, [1], `[${text}]`)).length).toBeLessThan(400);
  });

  test.each<[unknown, string]>([
    [[3], '[1,2]'],
    [[1], '[1,2]'],
    [[0], '[1]'],
    [[2], '[]'],
    [[2, 2], '[[1,2],[3]]'],
    [[2, 2], '[[1,2]]'],
    [[2, 2], '[[1,2],[3,4],[5,6]]'],
    [[2, 2], '[[1,2],3,4]'],
    [[2, 2], '[1,2,[3,4]]'],
    [[4], '[[1,2,3,4]]'],
    [[2, 2], '[[[1,2],[3,4]]]'],
    [[], '[[1]]'],
    [[2 ** 40], '[1]'],
    [[4294967296, 4294967296], '[1]'],
    [[9007199254740991, 9007199254740991, 0], '[1]'],
    [[2, 0], '[[],[],[]]'],
  ])('shape %j refuses %s', (shape, text) => {
    expect(refusal(() => dataOf('INT32', shape, text))).toContain("Shape does not match true shape of 'data' field");
  });

  test('FP16 and BF16 are refused both ways with the words that clients look for', () => {
    expect(refusal(() => dataOf('FP16', [1], '[1]'))).toBe(
      'receiving FP16 data via JSON is not supported. Please use the binary data format for input X',
    );
    expect(refusal(() => print('BF16', Uint8Array.of(0, 0)))).toContain('sending BF16 data via JSON is not supported');
  });
});

describe('printing', () => {
  test.each<[Datatype, ArrayBufferView, string]>([
    [
      'FP32',
      Float32Array.of(0, -0, 1, -1.5, 0.1, 16777216, 3.4028234663852886e38),
      '0,-0.0,1,-1.5,0.1,16777216,3.4028235e+38',
    ],
    [
      'FP32',
      Float32Array.of(Number.NaN, Infinity, -Infinity, 1e-45, 1e-7, 1e-10),
      'NaN,Infinity,-Infinity,1e-45,1e-7,1e-10',
    ],
    [
      'FP32',
      Float32Array.of(0.000001, 0.3333333432674408, 1e21, 1e20),
      '0.000001,0.33333334,1e+21,100000000000000000000',
    ],
    ['FP64', Float64Array.of(0.1, -0, Number.NaN, 1e300, 123456789012), '0.1,-0.0,NaN,1e+300,123456789012'],
    ['INT8', Int8Array.of(-128, 0, 127), '-128,0,127'],
    ['UINT32', Uint32Array.of(4294967295, 1000000000), '4294967295,1000000000'],
    ['INT64', BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n, -1n), '-9223372036854775808,9007199254740993,-1'],
    ['UINT64', BigUint64Array.of(2n ** 64n - 1n, 2n ** 63n), '18446744073709551615,9223372036854775808'],
    ['BOOL', Uint8Array.of(1, 0), 'true,false'],
    ['BYTES', Buffer.from('\x04\0\0\0a"\\\n\x02\0\0\0é\0\0\0\0'), '"a\\"\\\\\\u000a","é",""'],
  ])('%s %s', (datatype, values, expected) => {
    expect(printed(datatype, bytes(values))).toBe(expected);
  });

  test('says id only when there is one, and escapes names', () => {
    expect(print('BOOL', Uint8Array.of(1))).toBe(
      '{"model_name":"m","model_version":"1","outputs":[{"name":"Y","datatype":"BOOL","shape":[1],"data":[true]}]}',
    );
    expect(JSON.parse(print('BOOL', Uint8Array.of(1), 'a"\n\ud800')).id).toBe('a"\n\ufffd');
  });

  test('BYTES that are not UTF-8 are refused with the way out', () => {
    expect(refusal(() => print('BYTES', Uint8Array.of(1, 0, 0, 0, 0xff)))).toContain('binary_data');
  });

  test('data that starts at any byte, also in shared memory, prints the same', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(64), 3, 8);
    shared.set(bytes(Float32Array.of(1.5, -2)));
    expect(printed('FP32', shared)).toBe('1.5,-2');
    const strings = new Uint8Array(new SharedArrayBuffer(64), 1, 6);
    strings.set(Buffer.from('\x02\0\0\0é'));
    expect(printed('BYTES', strings)).toBe('"é"');
  });
});

describe('round trips and fuzz', () => {
  const random = createRandom(20_240);

  test('random tensors of every datatype survive print and parse bit for bit', () => {
    const datatypes = (Object.keys(DATATYPES) as Datatype[]).filter((name) => name !== 'FP16' && name !== 'BF16');
    for (let round = 0; round < 60; round++) {
      for (const datatype of datatypes) {
        const count = Math.floor(random() * 200);
        const data = randomTensor(datatype, count, random);
        const again = dataOf(datatype, [count], `[${printed(datatype, data)}]`);
        expect(Buffer.from(again).equals(data), `${datatype} ${printed(datatype, data)}`).toBe(true);
      }
    }
  });

  test('printed float32 have at most 9 digits and read back through JSON.parse', () => {
    const values = new Float32Array(randomTensor('FP32', 50_000, random).buffer);
    const texts = printed('FP32', bytes(values)).split(',');
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (!Number.isFinite(value)) continue;
      const text = texts[i]!;
      expect(Math.fround(JSON.parse(text)) === value, `${value} printed as ${text}`).toBe(true);
      expect(text.replace(/e.*/, '').replace(/[-.]/g, '').replace(/^0+/, '').replace(/0+$/, '').length).toBeLessThan(
        10,
      );
    }
  });

  test('floats read as JSON.parse reads them, whatever their digits', () => {
    const texts: string[] = [];
    for (let i = 0; i < 30_000; i++) {
      const whole = Math.floor(random() * 10 ** Math.floor(random() * 16));
      const digits =
        String(random())
          .slice(2, 2 + Math.floor(random() * 18))
          .replace(/\D/g, '') || '0';
      const exponent = random() < 0.5 ? '' : `e${Math.floor(random() * 70) - 35}`;
      texts.push(`${random() < 0.5 ? '-' : ''}${whole}.${digits}${exponent}`);
    }
    const parsed = JSON.parse(`[${texts}]`) as number[];
    const doubles = new Float64Array(dataOf('FP64', [texts.length], `[${texts}]`).buffer);
    for (let i = 0; i < texts.length; i++) expect(Object.is(doubles[i], parsed[i]), texts[i]).toBe(true);
    const inRange = texts.filter((_, i) => Number.isFinite(Math.fround(parsed[i]!)));
    const singles = new Float32Array(dataOf('FP32', [inRange.length], `[${inRange}]`).buffer);
    for (let i = 0; i < inRange.length; i++) {
      expect(Object.is(singles[i], Math.fround(JSON.parse(inRange[i]!))), inRange[i]).toBe(true);
    }
  });

  test('random mutations are read or refused, never anything else', () => {
    const seed = Buffer.from(
      '{"id":"a\\u00e9","parameters":{"p":1.5,"q":"x"},"inputs":[{"name":"X","shape":[2,2],"datatype":"FP32","data":[[1,-2.5e3],[NaN,0.1]]},' +
        '{"name":"S","shape":[2],"datatype":"BYTES","data":["a\\ud83d\\ude00","b"]},{"data":[1,2],"name":"I","shape":[2],"datatype":"INT64"}],"outputs":[{"name":"Y"}]}',
    );
    const interesting = Buffer.from('{}[]",:\\u0dN-I.eE019 \0\xff', 'latin1');
    let refused = 0;
    for (let round = 0; round < 20_000; round++) {
      const mutant = Buffer.from(seed);
      for (let i = 0; i <= random() * 3; i++) {
        mutant[Math.floor(random() * mutant.length)] = interesting[Math.floor(random() * interesting.length)]!;
      }
      const cut = random() < 0.2 ? mutant.subarray(0, Math.floor(random() * mutant.length)) : mutant;
      try {
        parseInferRequest(cut);
      } catch (error) {
        refused++;
        if (!(error instanceof ServeError) || error.code !== 'INVALID_ARGUMENT') throw error;
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });

  test('what JSON.parse refuses is refused, bare tokens apart', () => {
    const seed = '{"id":"a","extra":{"b":[1,-2.5e3,true,null,"c\\n"]},"inputs":[]}';
    const interesting = '{}[]",:\\u0-.eE019 \n';
    for (let round = 0; round < 20_000; round++) {
      const at = Math.floor(random() * seed.length);
      const mutant = seed.slice(0, at) + interesting[Math.floor(random() * interesting.length)] + seed.slice(at + 1);
      let valid = true;
      try {
        JSON.parse(mutant);
      } catch {
        valid = false;
      }
      if (!valid) expect(() => parse(mutant), mutant).toThrow(ServeError);
    }
  });
});
