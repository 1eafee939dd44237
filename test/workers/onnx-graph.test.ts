import { describe, expect, test } from 'vitest';
import { ServeError } from '#src/base/errors';
import { scanModel } from '../../workers/onnx-scan.js';
import { identityModel, slowModel } from '../support/onnx.js';
import { field } from '../support/onnx-encode.js';

describe('bytes that are no model', () => {
  const refused = (bytes: Uint8Array, text = 'model file is not a valid ONNX model') => {
    let error: unknown;
    try {
      scanModel(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ServeError);
    expect((error as ServeError).code).toBe('INVALID_ARGUMENT');
    expect((error as ServeError).message).toContain(text);
  };

  test('are refused with the reason', () => {
    refused(new Uint8Array(0), 'it is empty');
    refused(Buffer.from('<!doctype html><title>404</title>'), 'wire type');
    refused(Buffer.from([0x08, 0x08]), 'it has no graph');
    refused(Buffer.from([0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]), 'it ends inside a field');
    refused(Buffer.from([0x00, 0x01]), 'field number out of range');
    refused(Buffer.from([0x08, ...new Array(11).fill(0xff), 0x01]), 'longer than 64 bits');
    refused(Buffer.from([0x38, 0x01]), 'field 7 has wire type 0, expected 2');
  });

  test('are refused wherever a model is cut off', () => {
    const bytes = identityModel('FP32', [4]);
    for (let length = 1; length < bytes.length; length++) {
      // Cut between fields of the file itself, what is left is a model still, only without its operator sets.
      const rest = bytes.subarray(length);
      if (rest[0] === 0x42) expect(scanModel(bytes.subarray(0, length)).opset).toBe(0);
      else refused(bytes.subarray(0, length));
    }
  });

  test('never end in anything but a scan or a ServeError, however they are made', () => {
    const seed = Buffer.from(slowModel(3));
    let state = 1;
    const random = (below: number) => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) % below;
    // Only the head is varied; behind it lie weights.
    const head = 900;
    for (let round = 0; round < 5000; round++) {
      const bytes =
        round % 2 === 0 ? Buffer.from(seed) : Buffer.from(Array.from({ length: random(200) }, () => random(256)));
      for (let i = 0; i < 4 && bytes.length > 0; i++) bytes[random(Math.min(head, bytes.length))] = random(256);
      try {
        scanModel(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(ServeError);
      }
    }
  });

  test('graphs in graphs are followed 64 deep and not further', () => {
    // By hand, as protobufjs writes no message that deep: model.graph.node.attribute.g.node.attribute.g ... node Div(x, y).
    const type = Buffer.from([0x08, 7]);
    const input = (name: string) => field(11, Buffer.concat([field(1, name), field(2, field(1, type))]));
    const at = (depth: number) => {
      let node: Buffer = Buffer.concat([field(1, 'x'), field(1, 'y'), field(3, 'd'), field(4, 'Div')]);
      for (let i = 0; i < depth; i++) node = field(5, field(6, field(1, node)));
      return field(7, Buffer.concat([input('x'), input('y'), field(1, node)]));
    };
    expect(scanModel(at(0)).integerDivision).toEqual([{ op: 'Div', node: 'd' }]);
    expect(scanModel(at(64)).integerDivision).toEqual([{ op: 'Div', node: 'd' }]);
    refused(at(65), 'nest deeper than 64');
  });
});
