/**
 * The configuration's inputs and outputs against those of the ONNX file: filled in from it, or compared with it.
 *
 * Called by `model-complete.ts`. Owns the mapping of dimensions (batch dimension off, symbol -> -1, scalar -> [1]) and Triton's
 * texts for what does not match. Everything that throws throws INVALID_ARGUMENT naming model and tensor.
 */
import { DATATYPES, type Datatype, datatypeOfConfig } from '../base/datatype.js';
import { invalid, printable } from '../base/errors.js';
import type { InputConfig, OnnxTensor, OutputConfig, TensorConfig } from './model-config.js';
import type { RawTensor } from './model-config-raw.js';

export interface TensorContext {
  readonly model: string;
  readonly kind: 'input' | 'output';
  readonly maxBatchSize: number;
}

/** Whether the first dimension can be a batch dimension: it is there and symbolic. */
export function isBatchable(tensor: OnnxTensor): boolean {
  return typeof tensor.dims[0] === 'string';
}

/** What a configuration that leaves out its inputs or outputs gets. */
export function tensorFromOnnx(tensor: OnnxTensor, context: TensorContext): RawTensor {
  const datatype = datatypeOf(tensor, context);
  if (context.maxBatchSize > 0) checkBatchable(tensor, context.model);
  const shape = shapeOf(tensor);
  const dims = context.maxBatchSize > 0 ? shape.slice(1) : shape;
  const data_type = DATATYPES[datatype].configName;
  if (dims.length > 0) return { name: tensor.name, data_type, dims };
  // dims can't be empty. Triton writes the reshape only for batching models, where it is needed to tell [-1] from [-1, 1].
  return context.maxBatchSize > 0
    ? { name: tensor.name, data_type, dims: [1], reshape: { shape: [] } }
    : { name: tensor.name, data_type, dims: [1] };
}

/** Inputs as the engine uses them. Every listed one must be in the file, every one in the file that needs a value must be listed. */
export function matchInputs(
  listed: readonly RawTensor[],
  onnx: readonly OnnxTensor[],
  context: TensorContext,
): InputConfig[] {
  const inputs = listed.map((input) => {
    const tensor = find(input, onnx, context);
    const optional = input.optional ?? false;
    if (optional) checkOptional(tensor, context);
    return { ...match(input, tensor, context), optional, allowRaggedBatch: false };
  });
  const names = new Set(inputs.map((input) => input.name));
  const missing = onnx.filter((tensor) => !tensor.hasDefault && !names.has(tensor.name));
  if (missing.length > 0) {
    const required = onnx.filter((tensor) => !tensor.hasDefault).length;
    throw invalid(
      `unable to load model '${context.model}', configuration expects ${required - missing.length} inputs, model provides ${required}` +
        `: missing in the configuration ${missing.map((tensor) => quoted(tensor.name)).join(', ')}`,
    );
  }
  return inputs;
}

/** Outputs as the engine uses them; the configuration may leave some of the file's out. */
export function matchOutputs(
  listed: readonly RawTensor[],
  onnx: readonly OnnxTensor[],
  context: TensorContext,
): OutputConfig[] {
  if (listed.length === 0) throw invalid(`model configuration must specify at least one 'output' for ${context.model}`);
  return listed.map((output) => ({
    ...match(output, find(output, onnx, context), context),
    labelFilename: output.label_filename ?? '',
  }));
}

function find(listed: RawTensor, onnx: readonly OnnxTensor[], { kind }: TensorContext): OnnxTensor {
  const tensor = onnx.find((candidate) => candidate.name === listed.name);
  if (tensor !== undefined) return tensor;
  const names = onnx.map((candidate) => printable(candidate.name, 128)).sort();
  throw invalid(`unexpected inference ${kind} ${quoted(listed.name)}, allowed ${kind}s are: ${names.join(', ')}`);
}

function match(listed: RawTensor, tensor: OnnxTensor, context: TensorContext): TensorConfig {
  const { name } = tensor;
  const datatype = datatypeOf(tensor, context);
  if (datatypeOfConfig(listed.data_type ?? '') !== datatype) {
    throw invalid(
      `unable to load model '${context.model}', configuration expects datatype ${listed.data_type} for ${context.kind} ` +
        `${quoted(name)}, model provides ${DATATYPES[datatype].configName}`,
    );
  }
  const dims = listed.dims ?? [];
  const reshape = listed.reshape === undefined ? undefined : (listed.reshape.shape ?? []);
  if (context.maxBatchSize > 0) checkBatchable(tensor, context.model);
  if (tensor.dims.length === 0) {
    checkScalar(name, reshape ?? dims, context.model);
    return { name, datatype, dims, reshape: [] };
  }
  compareDims(tensor, reshape ?? dims, context);
  return { name, datatype, dims, reshape };
}

function datatypeOf(tensor: OnnxTensor, { model, kind }: TensorContext): Datatype {
  if (tensor.datatype !== undefined) return tensor.datatype;
  const advice = kind === 'output' ? '; list only the other outputs in config.pbtxt to serve the model without it' : '';
  throw invalid(
    `unable to load model '${model}', ${kind} ${quoted(tensor.name)} has ONNX type '${printable(tensor.ortType, 128)}', which is not supported${advice}`,
  );
}

function checkOptional(tensor: OnnxTensor, { model, maxBatchSize }: TensorContext): void {
  if (maxBatchSize > 0) {
    throw invalid(
      `unable to load model '${model}', optional input ${quoted(tensor.name)} is not supported for models that support batching`,
    );
  }
  if (!tensor.hasDefault) {
    throw invalid(
      `unable to load model '${model}', input ${quoted(tensor.name)} can not be optional: the ONNX model has no value for it`,
    );
  }
}

function checkBatchable(tensor: OnnxTensor, model: string): void {
  if (isBatchable(tensor)) return;
  throw invalid(
    `model '${model}', tensor ${quoted(tensor.name)}: for the model to support batching the shape should have at least 1 dimension ` +
      `and the first dimension must be -1; but shape expected by the model is ${formatShape(shapeOf(tensor))}`,
  );
}

function checkScalar(name: string, dims: readonly number[], model: string): void {
  if (dims.every((dim) => dim === 1)) return;
  throw invalid(
    `unable to load model '${model}', scalar tensor ${quoted(name)}, should only provide 1 in the model configuration when the model ` +
      `doesn't support batching. Model configuration provided: ${formatShape(dims)}.`,
  );
}

/**
 * Fixed dimensions of the file must be in the configuration. A variable one may be narrowed for an input, which only limits
 * clients, but not for an output, where it would be a promise that the model does not make.
 */
function compareDims(tensor: OnnxTensor, dims: readonly number[], context: TensorContext): void {
  const batching = context.maxBatchSize > 0;
  const shape = shapeOf(tensor);
  const full = batching ? [-1, ...dims] : dims;
  const exact = context.kind === 'output';
  const fits =
    shape.length === full.length && shape.every((dim, index) => dim === full[index] || (dim === -1 && !exact));
  if (fits) return;
  const specified = batching
    ? '(an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete shape '
    : '(shape ';
  throw invalid(
    `model '${context.model}', tensor ${quoted(tensor.name)}: the model expects ${shape.length} dimensions (shape ${formatShape(shape)}) ` +
      `but the model configuration specifies ${full.length} dimensions ${specified}${formatShape(full)})`,
  );
}

function shapeOf(tensor: OnnxTensor): number[] {
  return tensor.dims.map((dim) => (typeof dim === 'string' ? -1 : dim));
}

function formatShape(shape: readonly number[]): string {
  return `[${shape.join(',')}]`;
}

function quoted(name = ''): string {
  return `'${printable(name, 128)}'`;
}
