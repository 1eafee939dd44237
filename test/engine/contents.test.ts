/** What a request's inputs are taken for: tensors, texts, pictures, token ids or an embedding; by tables over a model of each kind. */
import { describe, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { contentsOf } from '../../src/engine/contents.js';
import type { Model } from '../../src/engine/model.js';
import type { TensorSpec } from '../../src/engine/tensor-spec.js';
import type { InferInput, InferRequest } from '../../src/engine/types.js';
import type { TextSpec } from '../../src/runtime/preprocess-messages.js';
import { rawStrings } from '../support/engine.js';

const TEXT: TextSpec = {
  tokenizerJson: '{}',
  tokenizerConfigJson: '{}',
  maxTokens: 8,
  paddingSide: 'right',
  padTokenId: 0,
  padTokenTypeId: 0,
  addSpecialTokens: true,
  tensors: [
    { role: 'input_ids', name: 'input_ids', datatype: 'INT64' },
    { role: 'attention_mask', name: 'attention_mask', datatype: 'INT64' },
    { role: 'position_ids', name: 'position_ids', datatype: 'INT32' },
  ],
};

type Tensor = readonly [name: string, datatype: Datatype, dims: readonly number[]];

/** As much of a model as contents are judged by. */
function model(tensors: readonly Tensor[], contents: Model['contents'], batching = true): Model {
  const inputs = tensors.map(([name, datatype, dims], index): TensorSpec => {
    return { name, datatype, dims, reshape: undefined, onnxDims: dims, index, optional: false };
  });
  return {
    name: 'm',
    config: { maxBatchSize: batching ? 4 : 0 },
    inputs,
    inputPositions: new Map(tensors.map(([name], position) => [name, position])),
    batching,
    contents,
    processor: { text: TEXT },
  } as unknown as Model;
}

const IDS: Tensor[] = [
  ['input_ids', 'INT64', [-1]],
  ['attention_mask', 'INT64', [-1]],
  ['position_ids', 'INT32', [-1]],
];
const text = model(IDS, [
  { name: 'text', kind: 'text', makes: [0, 1, 2] },
  { name: 'text_pair', kind: 'text_pair', makes: [0, 1, 2] },
]);
const image = model(
  [
    ['image', 'FP32', [64]],
    ['threshold', 'FP32', [1]],
  ],
  [{ name: 'image_bytes', kind: 'image', makes: [0] }],
);
const clip = model(
  [...IDS, ['pixel_values', 'FP32', [3, -1, -1]]],
  [
    { name: 'text', kind: 'text', makes: [0, 1, 2] },
    { name: 'image', kind: 'image', makes: [3] },
  ],
);
const tensors = model([['INPUT0', 'FP32', [2, -1]]], []);
const strings = model([['TEXT', 'BYTES', [1]]], []);

const bytes = (name: string, shape: number[], ...elements: string[]): InferInput => {
  return { name, datatype: 'BYTES', shape, data: rawStrings(...elements) };
};
const typed = (input: InferInput, content: InferInput['content']): InferInput => ({ ...input, content: content! });
const floats = (name: string, shape: number[], count: number): InferInput => {
  return { name, datatype: 'FP32', shape, data: new Uint8Array(4 * count) };
};
const tokens = (...ids: bigint[]): InferInput => {
  return {
    name: '',
    datatype: 'INT64',
    shape: [ids.length],
    data: new Uint8Array(BigInt64Array.from(ids).buffer),
    content: 'tokens',
  };
};

function of(target: Model, inputs: InferInput[], parameters: InferRequest['parameters'] = new Map()) {
  return contentsOf(target, { inputs, parameters } as unknown as InferRequest, 16);
}

describe('inputs that are contents', () => {
  const cases: [what: string, Model, InferInput[], expected: [kind: string, count: number][]][] = [
    ['the text input by its name', text, [bytes('text', [2], 'a', 'b')], [['text', 2]]],
    ['a column of texts', text, [bytes('text', [2, 1], 'a', 'b')], [['text', 2]]],
    ['one text without a shape', text, [bytes('text', [], 'a')], [['text', 1]]],
    ['the only BYTES input by any name', text, [bytes('input-0', [1], 'a')], [['text', 1]]],
    ['strings under the name of the ids', text, [bytes('input_ids', [1], 'a')], [['text', 1]]],
    [
      'a pair',
      text,
      [bytes('text', [1], 'a'), bytes('text_pair', [1], 'b')],
      [
        ['text', 1],
        ['text_pair', 1],
      ],
    ],
    [
      'a picture under the name of its tensor',
      image,
      [bytes('image', [1], 'png'), floats('threshold', [1, 1], 1)],
      [['image', 1]],
    ],
    ['a typed picture without a name', image, [typed(bytes('', [1], 'png'), 'image')], [['image', 1]]],
    [
      'text and picture, each by name',
      clip,
      [bytes('text', [1], 'a'), bytes('image', [1], 'png')],
      [
        ['text', 1],
        ['image', 1],
      ],
    ],
    [
      'text and picture, each by its kind',
      clip,
      [typed(bytes('x', [1], 'a'), 'text'), typed(bytes('y', [1], 'png'), 'image')],
      [
        ['text', 1],
        ['image', 1],
      ],
    ],
  ];
  test.each(cases)('%s', (_, target, inputs, expected) => {
    const found = of(target, inputs)!;
    expect(found.elements.map(({ kind, count }) => [kind, count])).toEqual(expected);
    // Views, not copies.
    expect(inputs.map(({ data }) => data)).toEqual(expect.arrayContaining(found.elements.map(({ data }) => data)));
  });

  test('tensors beside contents stay as they are', () => {
    const threshold = floats('threshold', [1, 1], 1);
    expect(of(image, [bytes('image', [1], 'png'), threshold])!.tensors).toEqual([threshold]);
  });

  test('a request of tensors has none', () => {
    expect(
      of(text, [{ name: 'input_ids', datatype: 'INT64', shape: [1, 2], data: new Uint8Array(16) }]),
    ).toBeUndefined();
    expect(of(tensors, [floats('INPUT0', [1, 2, 1], 2)])).toBeUndefined();
    // For validation to refuse: this model takes no contents.
    expect(of(tensors, [bytes('INPUT0', [1], 'a')])).toBeUndefined();
    expect(of(strings, [bytes('TEXT', [1, 1], 'a')])).toBeUndefined();
  });
});

describe('contents that are tensors already', () => {
  test('an embedding takes the shape of its input', () => {
    const embedding = { ...floats('', [6], 6), content: 'embedding' as const };
    expect(of(tensors, [embedding])!.tensors).toMatchObject([{ name: 'INPUT0', datatype: 'FP32', shape: [1, 2, 3] }]);
  });

  test('text for a string tensor is one element of it', () => {
    const sent = typed(bytes('TEXT', [1], 'a'), 'text');
    expect(of(strings, [sent])!.tensors).toEqual([{ name: 'TEXT', datatype: 'BYTES', shape: [1, 1], data: sent.data }]);
  });

  test('token ids get their mask and positions', () => {
    const found = of(text, [tokens(5n, 6n, 7n)])!;
    const values = found.tensors.map(({ name, shape, datatype, data }) => {
      return [
        name,
        shape,
        [
          ...(datatype === 'INT64'
            ? new BigInt64Array(data.buffer as ArrayBuffer)
            : new Int32Array(data.buffer as ArrayBuffer)),
        ],
      ];
    });
    expect(values).toEqual([
      ['input_ids', [1, 3], [5n, 6n, 7n]],
      ['attention_mask', [1, 3], [1n, 1n, 1n]],
      ['position_ids', [1, 3], [0, 1, 2]],
    ]);
    expect(found.rowTokens).toEqual([3]);
  });
});

describe('refusals', () => {
  const cases: [what: string, Model, InferInput[], text: string][] = [
    [
      'a picture for a text model',
      text,
      [typed(bytes('text', [1], 'png'), 'image')],
      "input 'text' of model 'm' was sent an image but takes text",
    ],
    [
      'a nameless picture for a text model',
      text,
      [typed(bytes('', [1], 'png'), 'image')],
      "the input of model 'm' was sent an image but takes text ('text')",
    ],
    [
      'text for a picture',
      image,
      [typed(bytes('image', [1], 'a'), 'text')],
      "input 'image' of model 'm' was sent text but takes an image",
    ],
    [
      'text for a tensor',
      tensors,
      [typed(bytes('INPUT0', [1], 'a'), 'text')],
      "input 'INPUT0' of model 'm' was sent text but takes a tensor FP32 [2,-1]",
    ],
    [
      'a picture for a string',
      strings,
      [typed(bytes('TEXT', [1], 'png'), 'image')],
      "input 'TEXT' of model 'm' was sent an image but takes a tensor BYTES [1]",
    ],
    [
      'an embedding for a text model',
      text,
      [{ ...floats('text', [3], 3), content: 'embedding' }],
      "input 'text' of model 'm' was sent an embedding but takes text ('text')",
    ],
    [
      'an embedding that fits no shape',
      tensors,
      [{ ...floats('', [5], 5), content: 'embedding' }],
      "embedding of 5 values for input 'INPUT0' of model 'm', which takes [2,-1]",
    ],
    [
      'token ids for a picture',
      image,
      [tokens(1n)],
      "the input of model 'm' was sent token ids but takes an image ('image_bytes') or a tensor FP32 [64] ('image')",
    ],
    [
      'token ids past the limit',
      text,
      [tokens(...Array.from({ length: 9 }, () => 1n))],
      "9 token ids for model 'm', which takes at most 8",
    ],
    ['a negative token id', text, [tokens(1n, -1n)], 'token id -1 at position 1'],
    ['a token id past 31 bits', text, [tokens(2n ** 31n)], 'token id 2147483648 at position 0'],
    ['a token id past 32 bits', text, [tokens(1n, 2n ** 32n)], 'token id 4294967296 at position 1'],
    ['no token ids', text, [tokens()], 'at least one token id is needed'],
    [
      'text and its own tensors',
      text,
      [bytes('text', [1], 'a'), { name: 'input_ids', datatype: 'INT64', shape: [1, 1], data: new Uint8Array(8) }],
      "inputs 'text' and 'input_ids' for model 'm' both stand for 'input_ids', send one of them",
    ],
    ['text twice', text, [bytes('text', [1], 'a'), bytes('input_ids', [1], 'a')], "both stand for 'input_ids'"],
    [
      'two inputs of unknown names',
      text,
      [bytes('a', [1], 'a'), bytes('b', [1], 'b')],
      "unexpected inference input 'a' for model 'm', its inputs for texts and pictures are 'text', 'text_pair'",
    ],
    [
      'an unknown name where text and picture are taken',
      clip,
      [bytes('x', [1], 'a')],
      "unexpected inference input 'x'",
    ],
    ['a pair without its first', text, [bytes('text_pair', [1], 'a')], "needs the first texts in input 'text'"],
    [
      'a pair of another length',
      text,
      [bytes('text', [2], 'a', 'b'), bytes('text_pair', [1], 'c')],
      "input 'text_pair' batch size does not match",
    ],
    ['more than a batch', text, [bytes('text', [5], ...'abcde')], "inference request batch-size must be <= 4 for 'm'"],
    ['no elements', text, [bytes('text', [0])], "input 'text' for model 'm' has no elements"],
    ['a matrix of texts', text, [bytes('text', [1, 2], 'a', 'b')], 'Expected [n] or [n,1] for n elements, got [1,2]'],
    ['an empty text', text, [bytes('text', [2], 'a', '')], "element 1 of input 'text' for model 'm' is empty"],
    [
      'a picture of no bytes',
      image,
      [bytes('image', [1], '')],
      "element 0 of input 'image_bytes' for model 'm' is empty",
    ],
    [
      'a text past the limit',
      text,
      [bytes('text', [1], 'x'.repeat(17))],
      "text 0 of input 'text' for model 'm' has 17 bytes, at most 16 are taken",
    ],
    ['fewer elements than the shape says', text, [bytes('text', [2], 'a')], 'expected 2 string elements'],
    ['half a length', text, [{ ...bytes('text', [1]), data: new Uint8Array(3) }], 'incomplete string length indicator'],
    [
      'an element that ends early',
      text,
      [{ ...bytes('text', [1]), data: Uint8Array.of(9, 0, 0, 0, 65) }],
      'expecting string of length 9 but only 1 bytes available',
    ],
  ];
  test.each(cases)('%s', (_, target, inputs, expected) => {
    expect(() => of(target, inputs)).toThrow(expected);
    expect(() => of(target, inputs)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  test('a picture may be longer than a text', () => {
    expect(of(image, [bytes('image', [1], 'x'.repeat(17))])!.elements).toHaveLength(1);
  });
});

test('truncate is a parameter, also as the text that the small contract knows', () => {
  const value = (given: boolean | string) =>
    of(text, [bytes('text', [1], 'a')], new Map([['truncate', given]]))!.truncate;
  expect(of(text, [bytes('text', [1], 'a')])!.truncate).toBe(true);
  expect([value(true), value('true'), value(false), value('false')]).toEqual([true, true, false, false]);
  expect(() => value('no')).toThrow("parameter 'truncate' must be true or false");
});
