/**
 * Graphs with the input that exports give image models, pixel_values, and outputs that show what arrived in it: `pixels`, the same
 * tensor, `means`, FP32 [batch_size, channels], and on request `logits`, a linear layer over the means.
 *
 * Called by huggingface.ts, and by tests that want the graph alone.
 */
import type { Datatype } from '../../src/base/datatype.js';
import { buildModel, weights } from './onnx.js';
import type { OnnxNode, OnnxTensor, OnnxValue } from './onnx-encode.js';

export interface ImageGraphOptions {
  /** Order of a picture's elements: [3, height, width], [height, width, 3], or one dimension of all; CHW when not given. */
  readonly order?: 'CHW' | 'HWC' | 'flat';
  /** Undefined = any, but for `flat`. */
  readonly height?: number;
  readonly width?: number;
  readonly channels?: 1 | 3;
  readonly datatype?: Extract<Datatype, 'FP32' | 'FP16' | 'UINT8'>;
  /** Classes of `logits`; there is none when not given. */
  readonly labels?: number | undefined;
}

/** The bytes of an image model's ONNX file. */
export function imageGraph(options: ImageGraphOptions = {}): Buffer {
  const { order = 'CHW', channels = 3, datatype = 'FP32', labels } = options;
  const { height = 'height', width = 'width' } = options;
  const nodes: OnnxNode[] = [{ op: 'Identity', inputs: ['pixel_values'], outputs: ['pixels'] }];
  const initializers: OnnxTensor[] = [];
  const dims = {
    CHW: [channels, height, width],
    HWC: [height, width, channels],
    flat: [channels * Number(height) * Number(width)],
  }[order];
  const shape = ['batch_size', ...dims];
  const outputs: OnnxValue[] = [{ name: 'pixels', datatype, shape }];
  nodes.push({ op: 'Cast', inputs: ['pixel_values'], outputs: ['floats'], attributes: { to: 1 } });
  if (order === 'flat') {
    nodes.push({ op: 'ReduceMean', inputs: ['floats'], outputs: ['means'], attributes: { axes: [1], keepdims: 1 } });
  } else {
    const axes = order === 'CHW' ? [2, 3] : [1, 2];
    nodes.push({ op: 'ReduceMean', inputs: ['floats'], outputs: ['means'], attributes: { axes, keepdims: 0 } });
  }
  const means = order === 'flat' ? 1 : channels;
  outputs.push({ name: 'means', datatype: 'FP32', shape: ['batch_size', means] });
  if (labels !== undefined) {
    nodes.push({ op: 'Gemm', inputs: ['means', 'classes.w', 'classes.b'], outputs: ['logits'] });
    initializers.push(weights('classes.w', [means, labels], 81), weights('classes.b', [labels], 82));
    outputs.push({ name: 'logits', datatype: 'FP32', shape: ['batch_size', labels] });
  }
  return buildModel({
    name: 'image',
    inputs: [{ name: 'pixel_values', datatype, shape }],
    outputs,
    nodes,
    initializers,
  });
}
