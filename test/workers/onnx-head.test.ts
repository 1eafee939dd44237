/** Where a graph's head is found, and where it is left alone. */
import { expect, test } from 'vitest';
import { readOnnx } from '../../workers/onnx-graph.js';
import { headInput } from '../../workers/onnx-head.js';
import { buildModel, weights } from '../support/onnx.js';
import type { OnnxNode } from '../support/onnx-encode.js';

const node = (op: string, inputs: readonly string[], outputs: readonly string[]): OnnxNode => ({ op, inputs, outputs });

/** The operator of the node whose input the head's hidden states are. */
function head(...nodes: readonly OnnxNode[]): string | undefined {
  const value = (name: string) => ({ name, datatype: 'FP32' as const, shape: ['batch', 'tokens', 8] });
  const constants = ['w', 'bias', 'cap', 'scale', 'zero'].map((name, i) => weights(name, [8, 8], i));
  const model = buildModel({
    name: 'head',
    inputs: [value('hidden'), value('other')],
    outputs: [value('logits')],
    nodes,
    initializers: constants,
  });
  const skeleton = readOnnx(model);
  const found = headInput(skeleton, 'logits');
  return found === undefined ? undefined : skeleton.graph.nodes[found]!.op;
}

test('a product with constants, straight or behind operators that see one token', () => {
  expect(head(node('MatMul', ['hidden', 'w'], ['logits']))).toBe('MatMul');
  expect(head(node('Transpose', ['w'], ['t']), node('MatMul', ['hidden', 't'], ['logits']))).toBe('MatMul');
  expect(
    head(
      node('MatMulNBits', ['hidden', 'w', 'scale'], ['a']),
      node('Add', ['bias', 'a'], ['b']),
      node('Div', ['b', 'cap'], ['c']),
      node('Tanh', ['c'], ['d']),
      node('Mul', ['d', 'cap'], ['e']),
      node('Cast', ['e'], ['logits']),
    ),
  ).toBe('MatMulNBits');
});

test('a product of what is rounded to 8 bits at run time, if nobody else takes that', () => {
  const rounded = [
    node('DynamicQuantizeLinear', ['hidden'], ['q', 's', 'z']),
    node('MatMulInteger', ['q', 'w', 'z', 'zero'], ['i']),
    node('Cast', ['i'], ['f']),
    node('Mul', ['s', 'scale'], ['ss']),
    node('Mul', ['f', 'ss'], ['logits']),
  ];
  expect(head(...rounded)).toBe('DynamicQuantizeLinear');
  expect(head(...rounded, node('Cast', ['q'], ['elsewhere']))).toBeUndefined();
});

test('none where tokens mix, two values meet, or weights are not constant', () => {
  expect(head(node('MatMul', ['hidden', 'w'], ['a']), node('CumSum', ['a', 'zero'], ['logits']))).toBeUndefined();
  expect(head(node('MatMul', ['hidden', 'w'], ['a']), node('Add', ['a', 'other'], ['logits']))).toBeUndefined();
  expect(head(node('MatMul', ['hidden', 'other'], ['logits']))).toBeUndefined();
  expect(head(node('MatMul', ['w', 'hidden'], ['logits']))).toBeUndefined();
  expect(head(node('Identity', ['hidden'], ['logits']))).toBeUndefined();
});
