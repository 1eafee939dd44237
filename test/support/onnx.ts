/**
 * Models for tests and benches: recipes that return the bytes of a `model.onnx`, and `writeModel`, which lays a model out in a
 * repository as Triton does. Inputs are named INPUT0, INPUT1, outputs OUTPUT0, OUTPUT1.
 *
 * Called by tests and benches. Must not be imported by `src/` or `workers/`. With `batching` (the default where there is a
 * choice) the first dimension is the symbolic 'batch'.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Datatype } from '../../src/base/datatype.js';
import { buildModel, type OnnxNode, type OnnxTensor, type OnnxValue } from './onnx-encode.js';

export { buildModel };

export interface ModelFiles {
  /** Text of config.pbtxt; none is written when not given. */
  readonly config?: string;
  readonly versions: Readonly<Record<string, Uint8Array>>;
  /** Further files, by path below the model's directory (labels.txt, 1/weights.bin). */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
}

/** Writes `<repository>/<name>/config.pbtxt`, `<version>/model.onnx` and the further files; returns the model's directory. */
export function writeModel(repositoryDir: string, name: string, model: ModelFiles): string {
  const dir = join(repositoryDir, name);
  const write = (path: string, content: string | Uint8Array): void => {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  };
  mkdirSync(dir, { recursive: true });
  if (model.config !== undefined) write('config.pbtxt', model.config);
  for (const [version, bytes] of Object.entries(model.versions)) write(join(version, 'model.onnx'), bytes);
  for (const [path, content] of Object.entries(model.files ?? {})) write(path, content);
  return dir;
}

export interface BatchingOptions {
  /** Whether the model has a leading batch dimension; true when not given. */
  readonly batching?: boolean;
}

type Dims = readonly (number | string)[];

function batched(dims: Dims, options: BatchingOptions): Dims {
  return (options.batching ?? true) ? ['batch', ...dims] : dims;
}

function value(name: string, datatype: Datatype, shape: Dims): OnnxValue {
  return { name, datatype, shape };
}

/**
 * INPUT0 -> OUTPUT0 unchanged. `dims` are without the batch dimension; a string is a variable one. BF16 is built too: a sound
 * ONNX model that onnxruntime-node refuses to load ("Unsupported data type: 16").
 */
export function identityModel(datatype: Datatype, dims: Dims, options: BatchingOptions = {}): Buffer {
  const shape = batched(dims, options);
  return buildModel({
    name: 'identity',
    inputs: [value('INPUT0', datatype, shape)],
    outputs: [value('OUTPUT0', datatype, shape)],
    nodes: [{ op: 'Identity', inputs: ['INPUT0'], outputs: ['OUTPUT0'] }],
  });
}

/** OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1. */
export function addSubModel(datatype: Datatype = 'INT32', dims: Dims = [16], options: BatchingOptions = {}): Buffer {
  const shape = batched(dims, options);
  const inputs = ['INPUT0', 'INPUT1'];
  return buildModel({
    name: 'add_sub',
    inputs: inputs.map((name) => value(name, datatype, shape)),
    outputs: ['OUTPUT0', 'OUTPUT1'].map((name) => value(name, datatype, shape)),
    nodes: [
      { op: 'Add', inputs, outputs: ['OUTPUT0'] },
      { op: 'Sub', inputs, outputs: ['OUTPUT1'] },
    ],
  });
}

export interface MlpOptions {
  /** Features of INPUT0, FP32 [batch, inputs]. */
  readonly inputs: number;
  readonly hidden: number;
  /** Hidden layers; at least 1. */
  readonly layers: number;
  /** Features of OUTPUT0, FP32 [batch, outputs]. */
  readonly outputs: number;
  readonly seed?: number;
}

/** A multi-layer perceptron (Gemm, Relu, ..., Gemm) with random but seeded weights: the same bytes every time. */
export function mlpModel(options: MlpOptions): Buffer {
  const sizes = [options.inputs, ...new Array<number>(options.layers).fill(options.hidden), options.outputs];
  const nodes: OnnxNode[] = [];
  const initializers: OnnxTensor[] = [];
  const last = sizes.length - 2;
  let from = 'INPUT0';
  for (let layer = 0; layer <= last; layer++) {
    const [rows, columns] = [sizes[layer]!, sizes[layer + 1]!];
    initializers.push(weights(`w${layer}`, [rows, columns], (options.seed ?? 1) * 1000 + layer));
    initializers.push(weights(`b${layer}`, [columns], (options.seed ?? 1) * 2000 + layer));
    const to = layer === last ? 'OUTPUT0' : `z${layer}`;
    nodes.push({ op: 'Gemm', inputs: [from, `w${layer}`, `b${layer}`], outputs: [to] });
    if (layer < last) nodes.push({ op: 'Relu', inputs: [to], outputs: [(from = `a${layer}`)] });
  }
  return buildModel({
    name: 'mlp',
    inputs: [value('INPUT0', 'FP32', ['batch', options.inputs])],
    outputs: [value('OUTPUT0', 'FP32', ['batch', options.outputs])],
    nodes,
    initializers,
  });
}

/** Takes rows of a ten-entry table: INT64 [batch, n] -> FP32 [batch, n]. An index outside -10..9 fails in ONNX Runtime. */
export function gatherModel(): Buffer {
  return buildModel({
    name: 'gather',
    inputs: [value('INPUT0', 'INT64', ['batch', 'n'])],
    outputs: [value('OUTPUT0', 'FP32', ['batch', 'n'])],
    nodes: [{ op: 'Gather', inputs: ['table', 'INPUT0'], outputs: ['OUTPUT0'] }],
    initializers: [{ name: 'table', datatype: 'FP32', shape: [10], data: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }],
  });
}

/** OUTPUT0 = INPUT0 / INPUT1, or their remainder. The smallest integer by -1 ends the process (SIGFPE): never run that here. */
export function intDivModel(datatype: Datatype = 'INT32', op: 'Div' | 'Mod' = 'Div', dims: Dims = [4]): Buffer {
  const shape = batched(dims, {});
  return buildModel({
    name: 'int_div',
    inputs: ['INPUT0', 'INPUT1'].map((name) => value(name, datatype, shape)),
    outputs: [value('OUTPUT0', datatype, shape)],
    nodes: [{ op, name: 'divide', inputs: ['INPUT0', 'INPUT1'], outputs: ['OUTPUT0'] }],
  });
}

/**
 * FP32 [batch, 16] -> the same shape, after `iterations` turns of a Loop over a 256 x 256 MatMul: about 0.35 ms each on one core,
 * whatever the batch. OUTPUT0 = INPUT0 + a finite constant, so rows can be told apart.
 */
export function slowModel(iterations = 100): Buffer {
  const size = 256;
  const square = [size, size];
  return buildModel({
    name: 'slow',
    inputs: [value('INPUT0', 'FP32', ['batch', 16])],
    outputs: [value('OUTPUT0', 'FP32', ['batch', 16])],
    nodes: [
      // The loop starts from the input (times zero), or ONNX Runtime would fold it into a constant at load.
      { op: 'ReduceSum', inputs: ['INPUT0'], outputs: ['total'], attributes: { keepdims: 0 } },
      { op: 'Mul', inputs: ['total', 'zero'], outputs: ['nothing'] },
      { op: 'Add', inputs: ['start', 'nothing'], outputs: ['state'] },
      {
        op: 'Loop',
        inputs: ['iterations', '', 'state'],
        outputs: ['end'],
        attributes: {
          body: {
            graph: {
              name: 'body',
              inputs: [value('i', 'INT64', []), value('go', 'BOOL', []), value('x', 'FP32', square)],
              outputs: [value('go_on', 'BOOL', []), value('y', 'FP32', square)],
              nodes: [
                { op: 'Identity', inputs: ['go'], outputs: ['go_on'] },
                { op: 'MatMul', inputs: ['x', 'w'], outputs: ['product'] },
                { op: 'Tanh', inputs: ['product'], outputs: ['y'] },
              ],
            },
          },
        },
      },
      { op: 'ReduceMean', inputs: ['end'], outputs: ['mean'], attributes: { keepdims: 0 } },
      { op: 'Add', inputs: ['INPUT0', 'mean'], outputs: ['OUTPUT0'] },
    ],
    initializers: [
      { name: 'zero', datatype: 'FP32', shape: [], data: [0] },
      { name: 'iterations', datatype: 'INT64', shape: [], data: [iterations] },
      weights('start', square, 3),
      weights('w', square, 4),
    ],
  });
}

/** Positions of the non-zero elements: FP32 [n] -> INT64 [1, k], where k is known only after the run. Does not batch. */
export function dynamicOutputModel(): Buffer {
  return buildModel({
    name: 'dynamic_output',
    inputs: [value('INPUT0', 'FP32', ['n'])],
    outputs: [value('OUTPUT0', 'INT64', [1, 'k'])],
    nodes: [{ op: 'NonZero', inputs: ['INPUT0'], outputs: ['OUTPUT0'] }],
  });
}

/** OUTPUT0 = INPUT0 and INPUT1 joined element by element, BYTES [batch, n] (UTF-8: ONNX Runtime's strings are text). */
export function stringModel(): Buffer {
  const shape = ['batch', 'n'];
  return buildModel({
    name: 'strings',
    opset: 20,
    inputs: ['INPUT0', 'INPUT1'].map((name) => value(name, 'BYTES', shape)),
    outputs: [value('OUTPUT0', 'BYTES', shape)],
    nodes: [{ op: 'StringConcat', inputs: ['INPUT0', 'INPUT1'], outputs: ['OUTPUT0'] }],
  });
}

/** A tensor without dimensions: OUTPUT0 = INPUT0 * 2, FP32 []. Does not batch. */
export function scalarModel(): Buffer {
  return buildModel({
    name: 'scalar',
    inputs: [value('INPUT0', 'FP32', [])],
    outputs: [value('OUTPUT0', 'FP32', [])],
    nodes: [{ op: 'Mul', inputs: ['INPUT0', 'two'], outputs: ['OUTPUT0'] }],
    initializers: [{ name: 'two', datatype: 'FP32', shape: [], data: [2] }],
  });
}

/** Tensors of no bytes: Identity of FP32 [batch, 0, 4]. */
export function zeroSizeModel(options: BatchingOptions = {}): Buffer {
  return identityModel('FP32', [0, 4], options);
}

/** FP32 [batch, 1024] -> the same shape through MatMuls of 4 MB each: about `megabytes` of weights, at least 4. */
export function bigModel(megabytes: number): Buffer {
  const width = 1024;
  const layers = Math.max(1, Math.round(megabytes / 4));
  const names = Array.from({ length: layers }, (_, i) => (i === layers - 1 ? 'OUTPUT0' : `z${i}`));
  const shape = ['batch', width];
  return buildModel({
    name: 'big',
    inputs: [value('INPUT0', 'FP32', shape)],
    outputs: [value('OUTPUT0', 'FP32', shape)],
    nodes: names.map((name, i) => ({ op: 'MatMul', inputs: [names[i - 1] ?? 'INPUT0', `w${i}`], outputs: [name] })),
    initializers: names.map((_, i) => weights(`w${i}`, [width, width], 5000 + i)),
  });
}

/** Weights of a linear layer, uniform in +-1.7 / sqrt(rows) so that products keep their size; a function of the seed alone. */
export function weights(name: string, shape: readonly number[], seed: number): OnnxTensor {
  const data = new Float32Array(shape.reduce((count, size) => count * size, 1));
  const scale = 1.7 / Math.sqrt(shape[0]!);
  let state = seed >>> 0;
  for (let i = 0; i < data.length; i++) {
    // A linear congruential generator (the constants of Numerical Recipes); its high bits are good enough for weights.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    data[i] = (state / 2_147_483_648 - 1) * scale;
  }
  return { name, datatype: 'FP32', shape, data };
}
