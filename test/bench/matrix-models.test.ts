/** The models of the matrix: sizes are what the columns say, and what comes out was computed from what went in. */
import { expect, test } from 'vitest';
import {
  MATRIX_MODELS,
  type MatrixModel,
  PAYLOAD_SIZES_KB,
  payloadFor,
  writeMatrixModels,
} from '../../bench/matrix-models.js';
import type { InferenceEngine } from '../../src/engine/engine.js';
import { infer, startEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { weights } from '../support/onnx.js';

test('the tensor that dominates a model has the bytes of the payload', () => {
  for (const kb of PAYLOAD_SIZES_KB) {
    const [texts] = payloadFor('text_embedding', kb).inputs;
    expect(texts!.shape[0]! * 512 * 4).toBe(kb * 1024);
    for (const model of ['image_classification', 'llm_token'] as const) {
      expect((payloadFor(model, kb).inputs[0]!.data as ArrayBufferView).byteLength).toBe(kb * 1024);
    }
  }
});

test('a payload is the same in every run and differs between sizes', () => {
  for (const model of MATRIX_MODELS) {
    expect(payloadFor(model, 10)).toEqual(payloadFor(model, 10));
    expect(payloadFor(model, 10).inputs[0]!.data).not.toEqual(payloadFor(model, 2).inputs[0]!.data);
  }
});

test('pixels are whole numbers of 0 to 255 over 255', () => {
  const { data } = payloadFor('image_classification', 2).inputs[0]!;
  for (const pixel of data as Float32Array) expect(pixel).toBe(Math.fround(Math.round(pixel * 255) / 255));
});

test('the server answers every model and size with what its graph computes', async () => {
  const directory = temporaryDirectory();
  writeMatrixModels(directory);
  const { engine, stop } = await startEngine(directory);
  try {
    for (const kb of PAYLOAD_SIZES_KB) {
      const embedding = new Float32Array((await run(engine, 'text_embedding', kb)).embedding!);
      expect(embedding.byteLength).toBe(kb * 1024);
      for (let row = 0; row < embedding.length; row += 512) {
        expect(Math.hypot(...embedding.subarray(row, row + 512))).toBeCloseTo(1, 4);
      }
      const scores = new Float32Array((await run(engine, 'image_classification', kb)).scores!);
      expect(scores).toHaveLength(10);
      expect(scores.reduce((sum, score) => sum + score, 0)).toBeCloseTo(1, 4);

      const answer = await run(engine, 'llm_token', kb);
      const expected = nextToken(payloadFor('llm_token', kb).inputs[0]!.data as BigInt64Array);
      expect(new BigInt64Array(answer.next_token!)).toEqual(BigInt64Array.of(expected.token));
      expect(new Float32Array(answer.logit!)[0]).toBeCloseTo(expected.logit, 4);
    }
  } finally {
    await stop();
  }
});

async function run(engine: InferenceEngine, modelName: MatrixModel, kb: number): Promise<Record<string, ArrayBuffer>> {
  const inputs = payloadFor(modelName, kb).inputs.map(({ name, datatype, shape, data }) =>
    tensor(name, datatype!, [...shape], data as ArrayBufferView),
  );
  const { outputs } = await infer(engine, { modelName, inputs });
  return Object.fromEntries(outputs.map(({ name, data }) => [name, Uint8Array.from(data).buffer]));
}

/** What the graph of `llm_token` computes, in JavaScript. */
function nextToken(prompt: BigInt64Array): { token: bigint; logit: number } {
  const table = weights('table', [32_000, 16], 31).data as Float32Array;
  const head = weights('head', [16, 32_000], 32).data as Float32Array;
  const ids = Array.from(prompt, Number);
  const far = ids.reduce((sum, id) => sum + id, 0) / ids.length / 32_000 - 0.5;
  const near = ids.slice(-512);
  const state = new Float64Array(16).fill(far);
  for (const id of near) for (let i = 0; i < 16; i++) state[i]! += table[id * 16 + i]! / near.length;
  let best = { token: -1n, logit: -Infinity };
  for (let token = 0; token < 32_000; token++) {
    let logit = 0;
    for (let i = 0; i < 16; i++) logit += state[i]! * head[i * 32_000 + token]!;
    if (logit > best.logit) best = { token: BigInt(token), logit };
  }
  return best;
}
