/**
 * Checks one request against one model completely, before it may wait or run: names, counts, datatypes, shapes, byte sizes,
 * parameters. What passes can't fail its batch by its form.
 *
 * Called by the engine's door. Texts are Triton's: clients and their tests match parts of them. Every refusal is INVALID_ARGUMENT.
 */
import { invalid, printable, type ServeError } from '../base/errors.js';
import { isRankable } from './classification.js';
import type { Entry } from './entry.js';
import { refuseDivisionOverflow } from './integer-division.js';
import type { Model } from './model.js';
import type { QueuePolicy } from './model-config.js';
import { knownParameters } from './parameters.js';
import { checkTensorData } from './tensor-data.js';
import { elementCount, sessionDims, type TensorSpec } from './tensor-spec.js';
import type { InferHandler, InferInput, InferRequest } from './types.js';

/**
 * The request as an entry that may be queued. `now` is when its queue timeout starts. `rowTokens` are the tokens in each row of a
 * request whose token tensors were made from text. Throws ServeError.
 */
export function admit(
  model: Model,
  request: InferRequest,
  handler: InferHandler,
  now: number,
  rowTokens?: readonly number[],
): Entry {
  const { inputs } = request;
  const data = new Array<Uint8Array | undefined>(model.inputs.length).fill(undefined);
  const dims = new Array<readonly number[] | undefined>(model.inputs.length).fill(undefined);
  let rows = model.batching ? -1 : 1;
  let byteLength = 0;
  let groupKey = '';
  checkNames(model, inputs);
  for (const input of inputs) {
    const position = model.inputPositions.get(input.name)!;
    const spec = model.inputs[position]!;
    if (input.datatype !== spec.datatype) {
      throw wrongDatatype(model, spec.name, input.datatype, spec.datatype);
    }
    const own = checkShape(model, spec, input.shape);
    if (rows < 0) rows = own;
    else if (model.batching && own !== rows) {
      throw invalid(`input '${spec.name}' batch size does not match other inputs for '${model.name}'`);
    }
    checkTensorData(model, spec, input);
    data[position] = input.data;
    dims[position] = sessionDims(spec, model.batching ? input.shape.slice(1) : input.shape);
    byteLength += input.data.byteLength;
  }
  if (model.batching && rows > model.config.maxBatchSize) {
    throw invalid(`inference request batch-size must be <= ${model.config.maxBatchSize} for '${model.name}'`);
  }
  if (model.integerDivision) refuseDivisionOverflow(model, data);
  // Of a model of one length every text has the shape of all others: to the queue it is a tensor.
  const lengths = model.processor.text?.fixedTokens === undefined ? rowTokens : undefined;
  // Texts are chosen by their lengths, which tensors have none of.
  if (lengths) groupKey = 'text;';
  for (let position = 0; position < dims.length; position++) {
    const own = dims[position];
    // Fixed dimensions are the same for all: only what may differ separates groups.
    if (own === undefined) groupKey += '-;';
    // What can be padded: its length separates nothing.
    else if (lengths && model.padding[position] !== undefined) groupKey += '*;';
    else if (model.inputs[position]!.dims.includes(-1)) groupKey += `${own.join(',')};`;
  }
  const { level, expiresMs, timeoutAction } = queueing(model, request, now);
  return {
    request,
    handler,
    rows,
    data,
    dims,
    outputs: outputPositions(model, request),
    rowTokens: lengths,
    inputTokens: rowTokens?.reduce((sum, tokens) => sum + tokens, 0),
    tokens: lengths ? Math.max(...lengths) : 0,
    groupKey,
    byteLength,
    level,
    expiresMs,
    timeoutAction,
    state: 'queued',
    timer: undefined,
    delayed: false,
    alone: false,
  };
}

function wrongDatatype(model: Model, name: string, actual: string, expected: string): ServeError {
  return invalid(
    `inference input '${name}' data-type is '${printable(actual)}', but model '${model.name}' expects '${expected}'`,
  );
}

function checkNames(model: Model, inputs: readonly InferInput[]): void {
  const seen = new Set<string>();
  for (const { name, datatype } of inputs) {
    if (!model.inputPositions.has(name)) {
      // As BYTES it would have become tensors before.
      if (model.contents.some((content) => content.name === name)) throw wrongDatatype(model, name, datatype, 'BYTES');
      throw invalid(`unexpected inference input '${printable(name)}' for model '${model.name}'`);
    }
    if (seen.has(name)) throw invalid(`input '${name}' already exists in request`);
    seen.add(name);
  }
  const missing = model.inputs.filter((spec) => !spec.optional && !seen.has(spec.name));
  if (missing.length === 0) return;
  const list = (names: readonly string[]) => `[${names.map((name) => `'${name}'`).join(',')}]`;
  const required = model.inputs.filter((spec) => !spec.optional).length;
  const expected =
    required === model.inputs.length
      ? `expected ${required} inputs but got ${inputs.length} inputs for model '${model.name}'`
      : `expected number of inputs between ${required} and ${model.inputs.length} but got ${inputs.length} inputs for model '${model.name}'`;
  throw invalid(
    `${expected}. Got input(s) ${list([...seen])}, but missing required input(s) ${list(missing.map(({ name }) => name))}. Please provide all required input(s).`,
  );
}

/** Checks a shape and gives its batch size (1 for a model that does not batch). */
function checkShape(model: Model, spec: TensorSpec, shape: readonly number[]): number {
  if (shape.some((dim) => dim < 0)) {
    throw invalid(
      `All input dimensions should be specified for input '${spec.name}' for model '${model.name}', got [${shape.join(',')}]`,
    );
  }
  if (model.batching && shape.length === 0) {
    throw invalid(`input '${spec.name}' has no shape but model requires batch dimension for '${model.name}'`);
  }
  const first = model.batching ? 1 : 0;
  const fits =
    shape.length === spec.dims.length + first &&
    spec.dims.every((dim, axis) => dim === -1 || dim === shape[axis + first]);
  if (!fits) {
    const expected = model.batching ? [-1, ...spec.dims] : spec.dims;
    const note = model.batching
      ? ' NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.'
      : '';
    throw invalid(
      `unexpected shape for input '${spec.name}' for model '${model.name}'. Expected [${expected.join(',')}], got [${shape.join(',')}].${note}`,
    );
  }
  // Products beyond what a double holds exactly are far beyond any payload: refused before anything is computed with them.
  if (elementCount(shape) > Number.MAX_SAFE_INTEGER / 8 || shape.some((dim) => !Number.isSafeInteger(dim))) {
    throw invalid(
      `shape [${shape.join(',')}] of input '${spec.name}' for model '${model.name}' causes total element count to exceed maximum size of 2^50`,
    );
  }
  const rows = model.batching ? shape[0]! : 1;
  if (rows === 0) {
    throw invalid(`input '${spec.name}' has batch size 0 but model '${model.name}' requires at least 1`);
  }
  return rows;
}

function outputPositions(model: Model, { outputs }: InferRequest): readonly number[] {
  if (outputs.length === 0) return model.defaultOutputs;
  const positions: number[] = [];
  for (const { name, classification } of outputs) {
    const position = model.outputPositions.get(name);
    if (position === undefined) {
      throw invalid(`unexpected inference output '${printable(name)}' for model '${model.name}'`);
    }
    if (positions.includes(position)) throw invalid(`output '${name}' already exists in request`);
    const { datatype } = model.outputs[position]!;
    if (classification && !isRankable(datatype)) {
      throw invalid(
        `class result not available for output due to unsupported type '${datatype}': output '${name}' of model '${model.name}' can not be ranked`,
      );
    }
    positions.push(position);
  }
  return positions;
}

/** Priority level and queue timeout by the model's policy and the request's parameters. */
function queueing(
  model: Model,
  request: InferRequest,
  now: number,
): { level: number; expiresMs: number; timeoutAction: QueuePolicy['timeoutAction'] } {
  const { timeoutUs, priority } = knownParameters(request.parameters);
  const batching = model.config.dynamicBatching;
  const levels = batching?.priorityLevels ?? 0;
  const level = levels === 0 ? 1 : priority >= 1 && priority <= levels ? priority : batching!.defaultPriorityLevel;
  const policy = batching?.priorityQueuePolicy.get(level) ?? batching?.defaultQueuePolicy;
  let effectiveUs = policy?.defaultTimeoutUs ?? 0;
  // Triton ignores an override where the default is 0; its users ask for the opposite. An override can only shorten.
  if (timeoutUs && (policy === undefined || policy.allowTimeoutOverride)) {
    effectiveUs = effectiveUs === 0 ? timeoutUs : Math.min(effectiveUs, timeoutUs);
  }
  return {
    level,
    expiresMs: effectiveUs === 0 ? Number.POSITIVE_INFINITY : now + effectiveUs / 1e3,
    timeoutAction: policy?.timeoutAction ?? 'REJECT',
  };
}
