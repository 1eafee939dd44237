/**
 * A model's folder and its ONNX file together: what a request may send in place of raw tensors, and what the outputs are.
 *
 * Called by model-assembly.ts. Pure. Owns the names of content inputs. Throws INVALID_ARGUMENT where a file contradicts the model;
 * what keeps a model from taking text or pictures without being wrong is a note for the log.
 */
import type { ProcessorSpec } from '../runtime/preprocess-messages.js';
import type { HubFolder } from './huggingface.js';
import { matchImage, matchText, tokenPadding } from './huggingface-match.js';
import { classNames, defaultOutputs, embeddingOf } from './huggingface-outputs.js';
import type { ContentInput, Model } from './model.js';
import type { OnnxTensor } from './model-config.js';

/** Rows of a model that tokenizes and has no `max_batch_size`: texts are short beside what a batch saves. */
const TEXT_BATCH_SIZE = 32;

export type HubParts = Pick<Model, 'contents' | 'processor' | 'padding' | 'defaultOutputs' | 'labels' | 'content'> & {
  /** For the log. */
  readonly notes: readonly string[];
};

export interface HubModelOptions {
  /** By output position: from files that the configuration names, which go before config.json. */
  readonly labels: Model['labels'];
  /** The configuration lists the outputs: all of them are wanted. */
  readonly outputsListed: boolean;
  readonly maxImagePixels: number;
}

export function hubParts(
  folder: HubFolder,
  model: Pick<Model, 'inputs' | 'outputs' | 'batching'>,
  options: HubModelOptions,
): HubParts {
  const { inputs, outputs, batching } = model;
  const { tokenizer, config } = folder;
  const notes: string[] = [];
  const text = tokenizer && matchText(tokenizer, inputs, batching);
  if (text?.problem !== undefined) notes.push(`text is not taken: ${text.problem}`);
  const image =
    folder.image &&
    matchImage(folder.image, inputs, { batching, channels: config.channels, maxPixels: options.maxImagePixels });
  if (image?.problem !== undefined) notes.push(`pictures are not taken: ${image.problem}`);
  const processor = { ...(text?.spec && { text: text.spec }), ...(image?.spec && { image: image.spec }) };
  const contents = contentInputs(processor, inputs, tokenizer?.takesPairs ?? false);
  const named = classNames(folder, outputs);
  const labels = outputs.map((_, position) => options.labels[position] ?? named[position]);
  const takesTokens = inputs.some(({ name }) => name === 'input_ids');
  const needed = inputs.find(
    (input) => !input.optional && !text?.spec?.tensors.some(({ name }) => name === input.name),
  );
  const withoutEmbedding = (embeddingProblem: string) => ({ embeddingOutput: undefined, embeddingProblem });
  let embedding: ReturnType<typeof embeddingOf>;
  if (!text?.spec)
    embedding = withoutEmbedding(takesTokens ? (text?.problem ?? 'its folder has no tokenizer.json') : '');
  else if (needed) embedding = withoutEmbedding(`text is not enough for it, it takes '${needed.name}' too`);
  else embedding = embeddingOf(folder, outputs, { batching, labels });
  if (folder.modules && text?.spec && embedding.embeddingProblem !== '') {
    notes.push(`no embeddings are given: ${embedding.embeddingProblem}`);
  }
  return {
    contents,
    processor,
    padding: tokenPadding(processor.text, inputs),
    defaultOutputs: options.outputsListed
      ? outputs.map((_, position) => position)
      : defaultOutputs(folder, outputs, batching),
    labels,
    content: {
      inputs: contents.map(({ name, kind }) => ({ name, kind })),
      ...embedding,
      isMatryoshka: config.isMatryoshka,
      generation: undefined,
    },
    notes,
  };
}

function contentInputs(
  { text, image }: ProcessorSpec,
  inputs: Model['inputs'],
  takesPairs: boolean,
): readonly ContentInput[] {
  const position = (name: string): number => inputs.findIndex((input) => input.name === name);
  // A tensor of the model may bear the name itself.
  const free = (kind: ContentInput['kind']): string => (position(kind) < 0 ? kind : `${kind}_bytes`);
  const contents: ContentInput[] = [];
  if (text) {
    const makes = text.tensors.map(({ name }) => position(name));
    contents.push({ name: free('text'), kind: 'text', makes });
    if (takesPairs || text.tensors.some(({ role }) => role === 'token_type_ids')) {
      contents.push({ name: free('text_pair'), kind: 'text_pair', makes });
    }
  }
  if (image) contents.push({ name: free('image'), kind: 'image', makes: [position(image.tensor)] });
  return contents;
}

/**
 * `max_batch_size` for a model whose configuration has none: more where it tokenizes, and none where texts and pictures each
 * have a batch of their own, since rows of one would be scored against those of other requests. 0 and 1 are left as they are: somebody
 * has turned batching off.
 */
export function defaultMaxBatchSize(folder: HubFolder, inputs: readonly OnnxTensor[], standard: number): number {
  const lead = (wanted: string) => inputs.find(({ name }) => name === wanted)?.dims[0];
  const texts = lead('input_ids');
  if (!folder.tokenizer || texts === undefined || standard <= 1) return standard;
  const pictures = lead('pixel_values');
  if (pictures !== undefined && pictures !== texts) return 0;
  return Math.max(TEXT_BATCH_SIZE, standard);
}
