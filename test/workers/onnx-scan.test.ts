import { describe, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { scanModel } from '../../workers/onnx-scan.js';
import { bigModel, buildModel, identityModel, intDivModel, mlpModel, slowModel } from '../support/onnx.js';
import {
  field,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxTensor,
  type OnnxValue,
} from '../support/onnx-encode.js';

const value = (name: string, datatype: Datatype, shape: (number | string)[] = ['n']): OnnxValue => ({
  name,
  datatype,
  shape,
});

/** A model from x (and y) to z with the given nodes. */
function model(datatype: Datatype, nodes: OnnxNode[], more: Partial<OnnxModel> = {}): Buffer {
  const inputs = [value('x', datatype), value('y', datatype)];
  return buildModel({ name: 'm', inputs, outputs: [value('z', datatype)], nodes, ...more });
}

const divide = (a: string, b: string, op = 'Div'): OnnxNode => ({ op, name: 'divide', inputs: [a, b], outputs: ['z'] });
const divisor = (data: (number | bigint)[], datatype: Datatype = 'INT32'): OnnxTensor => ({
  name: 'c',
  datatype,
  shape: [data.length],
  data,
});

function divisions(bytes: Buffer): string[] {
  return scanModel(bytes).integerDivision.map(({ op, node }) => `${op} ${node}`);
}

describe('integer divisions', () => {
  test.each([
    ['INT32', 'Div'],
    ['INT64', 'Div'],
    ['INT32', 'Mod'],
    ['INT64', 'Mod'],
  ] as const)('%s %s of two inputs is reported', (datatype, op) => {
    expect(divisions(intDivModel(datatype, op))).toEqual([`${op} divide`]);
  });

  test.each(['INT8', 'INT16', 'UINT8', 'UINT32', 'UINT64', 'FP32', 'FP64'] as const)(
    'division of %s is harmless',
    (datatype) => {
      expect(divisions(model(datatype, [divide('x', 'y')]))).toEqual([]);
    },
  );

  test('a node without a name is reported by its output', () => {
    expect(divisions(model('INT32', [{ op: 'Div', inputs: ['x', 'y'], outputs: ['z'] }]))).toEqual(['Div z']);
  });

  test('Mod with fmod is harmless, with fmod 0 it is not', () => {
    const mod = (fmod: number) => model('INT64', [{ ...divide('x', 'y', 'Mod'), attributes: { fmod } }]);
    expect(divisions(mod(1))).toEqual([]);
    expect(divisions(mod(0))).toEqual(['Mod divide']);
  });

  test.each([
    [[2, 3], 'INT32', []],
    [[2, -1], 'INT32', ['Div divide']],
    [[0xffffffffn, -2n], 'INT64', []],
    [[-1n], 'INT64', ['Div divide']],
    [[-4_294_967_296n, 0xffffffffn], 'INT64', []],
  ] as const)('a constant divisor %o of %s counts only with -1', (data, datatype, expected) => {
    const more = { initializers: [divisor([...data], datatype)] };
    expect(divisions(model(datatype, [divide('x', 'c')], more))).toEqual(expected);
  });

  test('a constant dividend counts only with the smallest integer', () => {
    const of = (...data: number[]) => divisions(model('INT32', [divide('c', 'x')], { initializers: [divisor(data)] }));
    expect(of(7, 2 ** 31 - 1)).toEqual([]);
    expect(of(-(2 ** 31))).toEqual(['Div divide']);
  });

  test('a constant that is an input too can be replaced by a request', () => {
    const more = { inputs: [value('x', 'INT32'), value('c', 'INT32')], initializers: [divisor([2])] };
    expect(divisions(model('INT32', [divide('x', 'c')], more))).toEqual(['Div divide']);
  });

  test('a constant in another file is not known', () => {
    const initializers = [{ name: 'c', datatype: 'INT32', shape: [1], external: { location: 'w' } }] as const;
    expect(divisions(model('INT32', [divide('x', 'c')], { initializers }))).toEqual(['Div divide']);
  });

  test.each([
    [{ value_int: 2 }, []],
    [{ value_int: -1 }, ['Div divide']],
    [{ value_ints: [3, -1] }, ['Div divide']],
    [{ value_ints: [3, 4] }, []],
    [{ value: { tensor: divisor([5n], 'INT64') } }, []],
    [{ value: { tensor: divisor([-1n], 'INT64') } }, ['Div divide']],
  ] as const)('a Constant node %o is looked into', (attributes, expected) => {
    const nodes: OnnxNode[] = [{ op: 'Constant', inputs: [], outputs: ['c'], attributes }, divide('x', 'c')];
    expect(divisions(model('INT64', nodes))).toEqual(expected);
  });

  test('arithmetic on sizes is harmless, also through moves and a cast to INT64, not through a narrower one', () => {
    const through = (datatype: 'INT32' | 'INT64', to: number) =>
      model(datatype, [
        { op: 'Shape', inputs: ['x'], outputs: ['shape'] },
        { op: 'Gather', inputs: ['shape', 'zero'], outputs: ['size'] },
        { op: 'Cast', inputs: ['size'], outputs: ['cast'], attributes: { to } },
        divide('x', 'cast'),
      ]);
    expect(divisions(through('INT64', 7))).toEqual([]);
    expect(divisions(through('INT32', 6))).toEqual(['Div divide']);
  });

  test('types follow Cast, comparisons and declarations', () => {
    const cast = (to: number): OnnxNode => ({ op: 'Cast', inputs: ['x'], outputs: ['a'], attributes: { to } });
    expect(divisions(model('FP32', [cast(7), divide('a', 'a')]))).toEqual(['Div divide']);
    expect(divisions(model('INT32', [cast(1), divide('a', 'a')]))).toEqual([]);
    const equal: OnnxNode[] = [{ op: 'Equal', inputs: ['x', 'y'], outputs: ['b'] }];
    expect(divisions(model('INT32', [...equal, { ...cast(6), inputs: ['b'] }, divide('a', 'x')]))).toEqual([
      'Div divide',
    ]);
    const custom: OnnxNode[] = [{ op: 'Odd', domain: 'some.where', inputs: ['x'], outputs: ['a'] }, divide('a', 'a')];
    expect(divisions(model('FP32', custom, { valueInfo: [value('a', 'INT64')] }))).toEqual(['Div divide']);
  });

  test('an unknown type counts as integer only when all inputs are integers', () => {
    const custom: OnnxNode[] = [{ op: 'Odd', domain: 'some.where', inputs: ['x'], outputs: ['a'] }, divide('a', 'a')];
    expect(divisions(model('INT32', custom))).toEqual(['Div divide']);
    expect(divisions(model('FP32', custom))).toEqual([]);
  });

  test('bodies of Loop and If are scanned, with what they see from outside', () => {
    const body: OnnxGraph = {
      name: 'body',
      inputs: [value('i', 'INT64', []), value('go', 'BOOL', []), value('s', 'INT32')],
      outputs: [value('go_on', 'BOOL', []), value('t', 'INT32')],
      nodes: [
        { op: 'Identity', inputs: ['go'], outputs: ['go_on'] },
        { op: 'Div', name: 'inner', inputs: ['s', 'y'], outputs: ['t'] },
      ],
    };
    const loop: OnnxNode = {
      op: 'Loop',
      inputs: ['n', '', 'x'],
      outputs: ['z'],
      attributes: { body: { graph: body } },
    };
    expect(divisions(model('INT32', [loop]))).toEqual(['Div inner']);
    const branch = (graph: string): OnnxGraph => ({ ...body, name: graph, inputs: [], nodes: [divide('x', 'y')] });
    const attributes = { then_branch: { graph: branch('a') }, else_branch: { graph: branch('b') } };
    expect(divisions(model('INT64', [{ op: 'If', inputs: ['b'], outputs: ['z'], attributes }]))).toEqual([
      'Div divide',
      'Div divide',
    ]);
  });

  test('functions are scanned with the types they are called with, once', () => {
    const functions = [{ name: 'F', domain: 'local', inputs: ['a', 'b'], outputs: ['z'], nodes: [divide('a', 'b')] }];
    const call = (to: string): OnnxNode => ({ op: 'F', domain: 'local', inputs: ['x', 'y'], outputs: [to] });
    expect(divisions(model('INT32', [call('w'), call('z')], { functions }))).toEqual(['Div divide']);
    expect(divisions(model('FP32', [call('z')], { functions }))).toEqual([]);
  });

  test('models of float arithmetic have none', () => {
    for (const bytes of [
      mlpModel({ inputs: 4, hidden: 4, layers: 1, outputs: 2 }),
      slowModel(3),
      identityModel('INT64', [4]),
    ]) {
      expect(divisions(bytes)).toEqual([]);
    }
  });
});

test('producer, operator set and external data are reported, external data from everywhere and once', () => {
  const external = (name: string, location: string): OnnxTensor => ({
    name,
    datatype: 'FP32',
    shape: [1],
    external: { location, offset: 0 },
  });
  const inner: OnnxGraph = {
    name: 'g',
    inputs: [],
    outputs: [],
    nodes: [
      { op: 'Constant', inputs: [], outputs: ['k'], attributes: { value: { tensor: external('', 'deep.bin') } } },
    ],
  };
  const bytes = model(
    'FP32',
    [{ op: 'If', inputs: ['x'], outputs: ['z'], attributes: { then_branch: { graph: inner } } }],
    {
      opset: 19,
      initializers: [external('a', 'w.bin'), external('b', 'w.bin'), external('c', '../v.bin')],
    },
  );
  expect(scanModel(bytes)).toEqual({
    integerDivision: [],
    inputs: ['x', 'y'],
    outputs: ['z'],
    externalData: ['deep.bin', 'w.bin', '../v.bin'],
    producer: 'tensorwire-test',
    opset: 19,
  });
});

test('external data of sparse tensors is reported', () => {
  const tensor = (location: string) => field(13, Buffer.concat([field(1, 'location'), field(2, location)]));
  const sparse = Buffer.concat([field(1, tensor('values.bin')), field(2, tensor('indices.bin'))]);
  const node = field(5, field(22, field(1, tensor('attribute.bin'))));
  const graph = Buffer.concat([field(1, node), field(15, sparse)]);
  expect(scanModel(field(7, graph)).externalData).toEqual(['attribute.bin', 'values.bin', 'indices.bin']);
});

test('weights are stepped over: a model of which they are most is scanned without a copy of them', () => {
  const bytes = bigModel(32);
  const before = process.memoryUsage();
  expect(scanModel(bytes).externalData).toEqual([]);
  const after = process.memoryUsage();
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1_000_000);
});

test('functions that call each other too deep are refused, a function that calls itself is no danger', () => {
  const chain = (length: number) =>
    Array.from({ length }, (_, i) => ({
      name: `F${i}`,
      domain: 'local',
      inputs: ['a'],
      outputs: ['b'],
      nodes: [{ op: `F${i + 1}`, domain: 'local', inputs: ['a'], outputs: ['b'] }],
    }));
  const call: OnnxNode = { op: 'F0', domain: 'local', inputs: ['x'], outputs: ['z'] };
  expect(divisions(model('INT32', [call], { functions: chain(64) }))).toEqual([]);
  expect(() => divisions(model('INT32', [call], { functions: chain(65) }))).toThrow('functions nest deeper than 64');
  const self = { ...chain(1)[0]!, nodes: [{ ...call, inputs: ['a'], outputs: ['b'] }] };
  expect(divisions(model('INT32', [call], { functions: [self] }))).toEqual([]);
});
