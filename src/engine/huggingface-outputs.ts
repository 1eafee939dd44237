/**
 * What a model's outputs mean: which one is the embedding of a text, which has classes with names, which come without being asked for.
 *
 * Called by huggingface-model.ts once the session's tensors are known. Pure; never throws: an output that means nothing here is served
 * as the tensor that it is.
 */
import type { HubFolder } from './huggingface.js';
import type { Model } from './model.js';
import type { TensorSpec } from './tensor-spec.js';

/** What pooling gives, in an export of sentence-transformers and in the worker alike. */
const SENTENCE_EMBEDDING = 'sentence_embedding';

/** Names that exports give an embedding, best first. */
const EMBEDDINGS: readonly string[] = [SENTENCE_EMBEDDING, 'text_embeds', 'embeddings', 'embedding'];

/** Models whose pooler was trained to give embeddings; with others it was trained for something else and means little. */
const TRAINED_POOLER = /^siglip/;

/** Names that exports give to a value per class. */
const CLASSES = /^(logits|probabilities|probability|probs|scores|softmax|predictions?|outputs?)$/i;

/** An output as it is declared; a batching model's dimensions are without the batch. */
type Output = Pick<TensorSpec, 'name' | 'datatype' | 'dims'>;

/** Class names of each output by its position, from config.json. */
export function classNames({ config }: HubFolder, outputs: readonly Output[]): Model['labels'][number][] {
  const { labels } = config;
  return outputs.map(({ name, datatype, dims }) => {
    const scores = datatype === 'FP32' || datatype === 'FP16' || datatype === 'FP64';
    const named = CLASSES.test(name) || outputs.length === 1;
    return labels && scores && named && dims.at(-1) === labels.length ? labels : undefined;
  });
}

export interface EmbeddingContext {
  readonly batching: boolean;
  /** By output position. */
  readonly labels: Model['labels'];
}

/** The output with one vector per text, or why there is none. */
export function embeddingOf(
  { config, modules }: HubFolder,
  outputs: readonly Output[],
  { batching, labels }: EmbeddingContext,
): { embeddingOutput: string | undefined; embeddingProblem: string } {
  const vectors = outputs.filter(({ datatype, dims }) => datatype === 'FP32' && dims.length === (batching ? 1 : 2));
  const named = EMBEDDINGS.find((name) => vectors.some((output) => output.name === name));
  if (named !== undefined) return { embeddingOutput: named, embeddingProblem: '' };
  const others = vectors.filter(
    (output) =>
      labels[outputs.indexOf(output)] === undefined &&
      // One number is a score.
      output.dims.at(-1) !== 1 &&
      !CLASSES.test(output.name) &&
      (output.name !== 'pooler_output' || TRAINED_POOLER.test(config.modelType)),
  );
  const [only] = others;
  // Modules that can't be done here would have come before or after it.
  if (only !== undefined && others.length === 1 && !modules)
    return { embeddingOutput: only.name, embeddingProblem: '' };
  return { embeddingOutput: undefined, embeddingProblem: whyNone(modules, outputs, batching) };
}

function whyNone(modules: HubFolder['modules'], outputs: readonly Output[], batching: boolean): string {
  if (modules && modules.problem !== '') return modules.problem;
  const half = outputs.find(({ name, datatype }) => datatype === 'FP16' && EMBEDDINGS.includes(name));
  if (half) return `its output '${half.name}' is FP16, and embeddings are given from FP32`;
  if (modules) return 'it has no output with one vector per token that could be pooled';
  if (outputs.some((output) => isPerToken(output, batching))) {
    return 'it gives one vector per token, and there is no modules.json that says how to pool them';
  }
  return 'no output of it is known to be an embedding';
}

/**
 * Outputs with the embedding in front and those with a vector per token at the end, where a folder of sentence-transformers says that the
 * embedding is what the model is for; else as they were.
 */
export function inOrderOfUse<T extends { readonly name: string; readonly dims: readonly unknown[] }>(
  { modules }: HubFolder,
  outputs: readonly T[],
): readonly T[] {
  if (!modules || !outputs.some(({ name }) => name === SENTENCE_EMBEDDING)) return outputs;
  const place = ({ name, dims }: T) => (name === SENTENCE_EMBEDDING ? 0 : dims.length === 3 ? 2 : 1);
  return outputs.toSorted((a, b) => place(a) - place(b));
}

/** Positions of the outputs that a request gets which names none. */
export function defaultOutputs({ modules }: HubFolder, outputs: readonly Output[], batching: boolean): number[] {
  const all = outputs.map((_, position) => position);
  if (!modules || !outputs.some(({ name }) => name === SENTENCE_EMBEDDING)) return all;
  return all.filter((position) => !isPerToken(outputs[position]!, batching));
}

function isPerToken({ datatype, dims }: Output, batching: boolean): boolean {
  return (datatype === 'FP32' || datatype === 'FP16') && dims.length === (batching ? 2 : 3);
}
