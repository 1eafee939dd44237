/**
 * The three models of the matrix and what is sent to each: small ONNX graphs that compute something real, and seeded inputs.
 *
 * Used by `matrix.ts`, the experiments and the tests. The tensor that dominates a model's traffic has exactly the payload's bytes: of a text
 * embedding the answer, of pictures and prompts the request. None of them batches: with batching, how many requests share a run would depend
 * on how fast an arm brings them, and the arms would be told apart by their batches. Weights and inputs are functions of seeds.
 */
import type { Payload } from '../src/bench/load-types.js';
import { buildModel, weights, writeModel } from '../test/support/onnx.js';

export const MATRIX_MODELS = ['text_embedding', 'image_classification', 'llm_token'] as const;
export type MatrixModel = (typeof MATRIX_MODELS)[number];

/** The article's sizes. */
export const PAYLOAD_SIZES_KB = [2, 10, 100, 500, 1000] as const;

/** Tokens of a text, and numbers of its embedding: 2 KB. */
const TEXT_TOKENS = 8;
const EMBEDDING = 512;
const TEXT_VOCABULARY = 2048;
/** As many as Llama's: a token is mostly four or five digits of JSON, against eight bytes of an INT64. */
const VOCABULARY = 32_000;
const HIDDEN = 16;
/** Tokens that are looked at one by one. */
const WINDOW = 512;
const CLASSES = 10;
const FILTERS = 8;

/** Writes the three into a model repository. */
export function writeMatrixModels(directory: string): void {
  const graphs = {
    text_embedding: textEmbedding(),
    image_classification: imageClassification(),
    llm_token: llmToken(),
  };
  for (const name of MATRIX_MODELS) {
    writeModel(directory, name, { config: 'max_batch_size: 0\n', versions: { 1: graphs[name] } });
  }
}

/** Token ids [texts, 8] -> unit vectors [texts, 512]: rows of a table, their mean, its direction. */
function textEmbedding(): Buffer {
  return buildModel({
    name: 'text_embedding',
    inputs: [{ name: 'input_ids', datatype: 'INT64', shape: ['texts', TEXT_TOKENS] }],
    outputs: [{ name: 'embedding', datatype: 'FP32', shape: ['texts', EMBEDDING] }],
    nodes: [
      { op: 'Gather', inputs: ['table', 'input_ids'], outputs: ['rows'] },
      { op: 'ReduceMean', inputs: ['rows'], outputs: ['mean'], attributes: { axes: [1], keepdims: 0 } },
      { op: 'LpNormalization', inputs: ['mean'], outputs: ['embedding'], attributes: { axis: -1, p: 2 } },
    ],
    initializers: [weights('table', [TEXT_VOCABULARY, EMBEDDING], 11)],
  });
}

/** Grey pixels [1, 1, height, width] of 0 to 1 -> probabilities of 10 classes: pooled by 4, one convolution, one linear layer. */
function imageClassification(): Buffer {
  return buildModel({
    name: 'image_classification',
    inputs: [{ name: 'image', datatype: 'FP32', shape: [1, 1, 'height', 'width'] }],
    outputs: [{ name: 'scores', datatype: 'FP32', shape: [1, CLASSES] }],
    nodes: [
      {
        op: 'AveragePool',
        inputs: ['image'],
        outputs: ['small'],
        attributes: { kernel_shape: [4, 4], strides: [4, 4] },
      },
      { op: 'Conv', inputs: ['small', 'filters'], outputs: ['edges'], attributes: { pads: [1, 1, 1, 1] } },
      { op: 'Relu', inputs: ['edges'], outputs: ['lit'] },
      { op: 'GlobalAveragePool', inputs: ['lit'], outputs: ['pooled'] },
      { op: 'Flatten', inputs: ['pooled'], outputs: ['features'] },
      { op: 'MatMul', inputs: ['features', 'classes'], outputs: ['logits'] },
      { op: 'Softmax', inputs: ['logits'], outputs: ['scores'], attributes: { axis: -1 } },
    ],
    initializers: [weights('filters', [FILTERS, 1, 3, 3], 21), weights('classes', [FILTERS, CLASSES], 22)],
  });
}

/**
 * A prompt's token ids [1, tokens] -> the likeliest next token and its logit: rows of a table for the last tokens, their mean, one linear
 * layer. As in models with a sliding window, what lies further back counts for little, here by how far the mean of all ids is from the
 * middle: otherwise a megabyte of tokens would be compute and not protocol.
 */
function llmToken(): Buffer {
  const int64 = (name: string, data: readonly bigint[]) =>
    ({ name, datatype: 'INT64', shape: [data.length], data: BigInt64Array.from(data) }) as const;
  return buildModel({
    name: 'llm_token',
    inputs: [{ name: 'input_ids', datatype: 'INT64', shape: [1, 'tokens'] }],
    outputs: [
      { name: 'next_token', datatype: 'INT64', shape: [1] },
      { name: 'logit', datatype: 'FP32', shape: [1] },
    ],
    nodes: [
      { op: 'Slice', inputs: ['input_ids', 'from', 'to', 'along'], outputs: ['window'] },
      { op: 'Gather', inputs: ['table', 'window'], outputs: ['rows'] },
      { op: 'ReduceMean', inputs: ['rows'], outputs: ['near'], attributes: { axes: [1], keepdims: 0 } },
      { op: 'Cast', inputs: ['input_ids'], outputs: ['ids'], attributes: { to: 1 } },
      { op: 'ReduceMean', inputs: ['ids'], outputs: ['mean'], attributes: { axes: [1], keepdims: 1 } },
      { op: 'Sub', inputs: ['mean', 'middle'], outputs: ['beside'] },
      { op: 'Div', inputs: ['beside', 'vocabulary'], outputs: ['far'] },
      { op: 'Add', inputs: ['near', 'far'], outputs: ['state'] },
      { op: 'MatMul', inputs: ['state', 'head'], outputs: ['logits'] },
      { op: 'ArgMax', inputs: ['logits'], outputs: ['next_token'], attributes: { axis: -1, keepdims: 0 } },
      { op: 'ReduceMax', inputs: ['logits'], outputs: ['logit'], attributes: { axes: [-1], keepdims: 0 } },
    ],
    initializers: [
      int64('from', [BigInt(-WINDOW)]),
      int64('to', [2n ** 62n]),
      int64('along', [1n]),
      { name: 'middle', datatype: 'FP32', shape: [], data: [VOCABULARY / 2] },
      { name: 'vocabulary', datatype: 'FP32', shape: [], data: [VOCABULARY] },
      weights('table', [VOCABULARY, HIDDEN], 31),
      weights('head', [HIDDEN, VOCABULARY], 32),
    ],
  });
}

/** What is sent for one cell, the same in every run. `kb` must be an even number of 1024 bytes. */
export function payloadFor(model: MatrixModel, kb: number): Payload {
  const bytes = kb * 1024;
  const below = uniform(kb * 3 + MATRIX_MODELS.indexOf(model));
  switch (model) {
    case 'text_embedding': {
      const shape = [bytes / (EMBEDDING * 4), TEXT_TOKENS];
      const data = BigInt64Array.from({ length: shape[0]! * TEXT_TOKENS }, () => BigInt(below(TEXT_VOCABULARY)));
      return { model, payloadKb: kb, inputs: [{ name: 'input_ids', datatype: 'INT64', shape, data }] };
    }
    case 'image_classification': {
      const [height, width] = sidesOf(bytes / 4);
      // Eight bits a pixel, as decoded pictures have; their JSON is what 1/255 makes of them.
      const data = Float32Array.from({ length: height * width }, () => below(256) / 255);
      const shape = [1, 1, height, width];
      return { model, payloadKb: kb, inputs: [{ name: 'image', datatype: 'FP32', shape, data }] };
    }
    case 'llm_token': {
      const data = BigInt64Array.from({ length: bytes / 8 }, () => BigInt(below(VOCABULARY)));
      const shape = [1, data.length];
      return { model, payloadKb: kb, inputs: [{ name: 'input_ids', datatype: 'INT64', shape, data }] };
    }
  }
}

/** Height and width of so many pixels, as square as multiples of four allow. */
function sidesOf(pixels: number): [height: number, width: number] {
  for (let height = Math.floor(Math.sqrt(pixels) / 4) * 4; height >= 4; height -= 4) {
    if (pixels % (height * 4) === 0) return [height, pixels / height];
  }
  throw new RangeError(`${pixels} pixels make no picture whose sides are multiples of four`);
}

/** Whole numbers below a limit, from a linear congruential generator (the constants of Numerical Recipes). */
function uniform(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
