/**
 * What a request sends in place of raw tensors: finds which inputs are texts, pictures, token ids or embeddings, and for what.
 *
 * Called by admission.ts before validation. Pure: reads the request and the model, copies nothing. What it leaves alone, validation
 * judges as tensors. Every refusal is INVALID_ARGUMENT that names the input, what came and what the input takes.
 */
import { invalid, printable, type ServeError } from '../base/errors.js';
import type { ContentElements } from '../runtime/preprocess-messages.js';
import type { ContentInput, Model } from './model.js';
import { checkElements } from './tensor-data.js';
import { elementCount, type TensorSpec } from './tensor-spec.js';
import { tokenTensors } from './token-tensors.js';
import type { ContentKind, InferInput, InferRequest } from './types.js';

export interface Contents {
  /** For the preprocess pool; empty where nothing needs it. */
  readonly elements: readonly ContentElements[];
  /** Inputs that are tensors: as sent, and those made here. */
  readonly tensors: readonly InferInput[];
  /** Tokens in each row, where token ids were sent. */
  readonly rowTokens: readonly number[] | undefined;
  /** Request parameter `truncate`: whether texts of too many tokens are cut. */
  readonly truncate: boolean;
}

/** Elements for a model that does not batch and so says nothing of how many it takes. */
const MAX_ELEMENTS = 1024;

/** Undefined for a request of tensors alone. `maxTextBytes` bounds one text. */
export function contentsOf(model: Model, request: InferRequest, maxTextBytes: number): Contents | undefined {
  if (!request.inputs.some((input) => isContent(model, input))) return undefined;
  const elements: ContentElements[] = [];
  const tensors: InferInput[] = [];
  /** Which input each raw input comes from. */
  const sources = new Map<string, string>();
  const claim = (position: number, source: InferInput): void => {
    const { name } = model.inputs[position]!;
    const other = sources.get(name);
    if (other !== undefined) {
      throw invalid(
        `inputs '${printable(other)}' and '${printable(source.name)}' for model '${model.name}' both stand for '${name}', send one of them`,
      );
    }
    sources.set(name, source.name);
  };
  let rowTokens: readonly number[] | undefined;
  for (const input of request.inputs) {
    if (!isContent(model, input)) {
      const position = model.inputPositions.get(input.name);
      if (position !== undefined) claim(position, input);
      tensors.push(input);
      continue;
    }
    const kind = input.content;
    if (kind === 'tokens') {
      const target = contentInput(model, input, 'text', request);
      for (const position of target.makes) claim(position, input);
      tensors.push(...tokenTensors(model, input));
      rowTokens = [input.shape[0]!];
      continue;
    }
    const plain = kind === 'embedding' ? embeddingTensor(model, input) : stringTensor(model, input);
    if (plain) {
      claim(model.inputPositions.get(plain.name)!, input);
      tensors.push(plain);
      continue;
    }
    const target = contentInput(model, input, kind as 'text' | 'image' | undefined, request);
    // A pair goes into the tensors that its text makes.
    if (target.kind !== 'text_pair') for (const position of target.makes) claim(position, input);
    if (elements.some((other) => other.kind === target.kind))
      throw invalid(`input '${target.name}' already exists in request`);
    elements.push({ kind: target.kind, count: checkedCount(model, target, input, maxTextBytes), data: input.data });
  }
  checkTogether(model, elements);
  return { elements, tensors, rowTokens, truncate: truncateOf(request) };
}

function isContent(model: Model, { name, datatype, content }: InferInput): boolean {
  if (content !== undefined) return true;
  if (datatype !== 'BYTES' || model.contents.length === 0) return false;
  const position = model.inputPositions.get(name);
  return position === undefined || model.inputs[position]!.datatype !== 'BYTES';
}

/** The content input that `input` means: by its name or a raw input's that it stands for, else the only one of its kind. */
function contentInput(
  model: Model,
  input: InferInput,
  kind: 'text' | 'image' | undefined,
  request: InferRequest,
): ContentInput {
  const named =
    model.contents.find(({ name }) => name === input.name) ??
    model.contents.find(({ makes }) => makes.some((position) => model.inputs[position]!.name === input.name));
  if (named) {
    const taken = named.kind === 'image' ? 'image' : 'text';
    if (kind === undefined || kind === taken) return named;
    throw wrongKind(model, input, ARTICLES[taken]);
  }
  const position = model.inputPositions.get(input.name);
  if (position !== undefined && kind) throw wrongKind(model, input, describe(model.inputs[position]!));
  const candidates = model.contents.filter(
    (content) => content.kind !== 'text_pair' && (!kind || content.kind === kind),
  );
  // Without a kind, two inputs of unknown names could each be either.
  const alone = kind !== undefined || request.inputs.filter((other) => isContent(model, other)).length === 1;
  if (candidates.length === 1 && alone) return candidates[0]!;
  if (kind && candidates.length === 0) throw wrongKind(model, input, takenBy(model));
  const names = model.contents.map(({ name }) => `'${name}'`).join(', ');
  throw invalid(
    `unexpected inference input '${printable(input.name)}' for model '${model.name}', its inputs for texts and pictures are ${names}`,
  );
}

/** A text for an input that is a string tensor in the model itself; undefined where there is none. */
function stringTensor(model: Model, input: InferInput): InferInput | undefined {
  if (input.content !== 'text' && input.content !== 'image') return undefined;
  const spec = specOf(model, input, 'BYTES');
  if (spec?.datatype !== 'BYTES') return undefined;
  if (input.content === 'image') throw wrongKind(model, input, describe(spec));
  const own = spec.dims.map((dim) => (dim === -1 ? 1 : dim));
  const shape = model.batching ? [1, ...own] : own;
  return { name: spec.name, datatype: 'BYTES', shape, data: input.data };
}

/** An embedding as the FP32 tensor that it is. */
function embeddingTensor(model: Model, input: InferInput): InferInput {
  const spec = specOf(model, input, 'FP32');
  if (spec?.datatype !== 'FP32') throw wrongKind(model, input, spec ? describe(spec) : takenBy(model));
  const count = input.shape[0]!;
  const fixed = elementCount(spec.dims.filter((dim) => dim !== -1));
  const free = spec.dims.filter((dim) => dim === -1).length;
  // The first free dimension takes what the fixed ones leave.
  const rest = count / fixed;
  if (!Number.isInteger(rest) || (free === 0 && rest !== 1)) {
    throw invalid(
      `embedding of ${count} values for input '${spec.name}' of model '${model.name}', which takes [${spec.dims.join(',')}]`,
    );
  }
  let left = rest;
  const own = spec.dims.map((dim) => {
    if (dim !== -1) return dim;
    const value = left;
    left = 1;
    return value;
  });
  return { name: spec.name, datatype: 'FP32', shape: model.batching ? [1, ...own] : own, data: input.data };
}

/** The raw input of that name; else, for a name that the model does not know, its only one of `datatype`. */
function specOf(model: Model, input: InferInput, datatype: string): TensorSpec | undefined {
  const position = model.inputPositions.get(input.name);
  if (position !== undefined) return model.inputs[position];
  const fitting = model.inputs.filter((spec) => spec.datatype === datatype);
  return fitting.length === 1 ? fitting[0] : undefined;
}

/** Number of elements, each of which has been looked at from outside. */
function checkedCount(model: Model, { name, kind }: ContentInput, input: InferInput, maxTextBytes: number): number {
  const { shape, data } = input;
  const [count = 1, ...rest] = shape;
  if (!Number.isSafeInteger(count) || count < 0 || rest.some((dim) => dim !== 1)) {
    throw invalid(
      `unexpected shape for input '${name}' for model '${model.name}'. Expected [n] or [n,1] for n elements, got [${shape.join(',')}]`,
    );
  }
  if (count === 0) throw invalid(`input '${name}' for model '${model.name}' has no elements, at least 1 is needed`);
  if (model.batching && count > model.config.maxBatchSize) {
    throw invalid(`inference request batch-size must be <= ${model.config.maxBatchSize} for '${model.name}'`);
  }
  if (count > MAX_ELEMENTS) {
    throw invalid(
      `input '${name}' for model '${model.name}' has ${count} elements, at most ${MAX_ELEMENTS} are allowed`,
    );
  }
  checkElements(`inference input '${name}' for model '${model.name}'`, data, count, (start, end, index) => {
    const bytes = end - start - 4;
    if (bytes === 0) throw invalid(`element ${index} of input '${name}' for model '${model.name}' is empty (0 bytes)`);
    if (kind !== 'image' && bytes > maxTextBytes) {
      throw invalid(
        `text ${index} of input '${name}' for model '${model.name}' has ${bytes} bytes, at most ${maxTextBytes} are taken. Use --max-text-byte-size to increase the limit.`,
      );
    }
  });
  return count;
}

function checkTogether(model: Model, elements: readonly ContentElements[]): void {
  const [first] = elements;
  if (!first) return;
  if (elements.some(({ kind }) => kind === 'text_pair') && !elements.some(({ kind }) => kind === 'text')) {
    throw invalid(`input 'text_pair' for model '${model.name}' needs the first texts in input 'text'`);
  }
  for (const { kind, count } of elements) {
    const mustMatch = model.batching || kind === 'text_pair';
    if (mustMatch && count !== first.count) {
      throw invalid(
        `input '${kind}' batch size does not match other inputs for '${model.name}': ${count} elements beside ${first.count}`,
      );
    }
  }
}

function truncateOf({ parameters }: InferRequest): boolean {
  const value = parameters.get('truncate');
  // The small contract's parameters are all strings.
  if (value === undefined || value === true || value === 'true') return true;
  if (value === false || value === 'false') return false;
  throw invalid("parameter 'truncate' must be true or false");
}

const ARTICLES: Readonly<Record<ContentKind, string>> = {
  text: 'text',
  image: 'an image',
  tokens: 'token ids',
  embedding: 'an embedding',
};

function wrongKind(model: Model, input: InferInput, taken: string): ServeError {
  const name = input.name === '' ? 'the input' : `input '${printable(input.name)}'`;
  return invalid(`${name} of model '${model.name}' was sent ${ARTICLES[input.content!]} but takes ${taken}`);
}

function takenBy(model: Model): string {
  const contents = model.contents.map(({ name, kind }) => `${kind === 'image' ? 'an image' : 'text'} ('${name}')`);
  return [...contents, ...model.inputs.map((spec) => `${describe(spec)} ('${spec.name}')`)].join(' or ');
}

function describe({ datatype, dims }: TensorSpec): string {
  return `a tensor ${datatype} [${dims.join(',')}]`;
}
