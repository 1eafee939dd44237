/**
 * Model folders with Hugging Face's files: small, but with every file in its real layout.
 *
 * Called by tests and benches. The graphs are those of onnx-text.ts and onnx-image.ts, the tokenizer is that of wordpiece.ts. Must not be
 * imported by `src/` or `workers/`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ImageGraphOptions, imageGraph } from './onnx-image.js';
import { type TextGraphOptions, textGraph } from './onnx-text.js';
import { wordPieceFiles } from './wordpiece.js';

export interface FolderOptions {
  /**
   * Where the ONNX file lies: `<name>/1/model.onnx` (triton), `<name>/onnx/model.onnx` (optimum), `<name>/model.onnx` (flat). The other files
   * lie in `<name>` always. triton when not given.
   */
  readonly layout?: 'triton' | 'optimum' | 'flat';
  /** Name of the ONNX file; model.onnx when not given. */
  readonly onnxFile?: string;
  /** Text of config.pbtxt; none is written when not given. */
  readonly config?: string;
  /** Further files by path below the folder, or others in place of the ones made here; undefined leaves one out. */
  readonly files?: Readonly<Record<string, string | Uint8Array | undefined>>;
}

export type PoolingMode = 'cls' | 'mean' | 'max' | 'mean_sqrt_len' | 'weightedmean' | 'lasttoken';

export interface TextModelOptions extends FolderOptions, Omit<TextGraphOptions, 'labels'> {
  /** Names of the classes (`id2label`), whose number is that of the logits. */
  readonly labels?: readonly string[];
  /** `model_max_length` of the tokenizer, special tokens included; 128 when not given. */
  readonly maxTokens?: number;
  readonly paddingSide?: 'right' | 'left';
  /** Writes modules.json and 1_Pooling/config.json with these modes. */
  readonly pooling?: readonly PoolingMode[];
  /** Adds the Normalize module to modules.json. */
  readonly normalize?: boolean;
  /** `max_seq_length` in sentence_bert_config.json; not written when not given. */
  readonly maxSequenceLength?: number;
}

export interface ImageModelOptions extends FolderOptions, Omit<ImageGraphOptions, 'labels'> {
  readonly labels?: readonly string[];
  /** What preprocessor_config.json says otherwise than that of a vision transformer for 8 x 8 pixels; undefined leaves a key out. */
  readonly preprocessor?: Readonly<Record<string, unknown>>;
}

export interface ModelFolder {
  readonly directory: string;
  /** Path of the ONNX file, to run it directly. */
  readonly onnxFile: string;
  /** Contents of the small files, by path below the folder. */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
}

/** Writes a folder with a tokenizer; returns what was written. */
export function writeTextModel(repository: string, name: string, options: TextModelOptions): ModelFolder {
  const { head, hidden = 8, maxTokens = 128, paddingSide, pooling, normalize, labels, maxSequenceLength } = options;
  const graph = textGraph({ ...options, labels: labels?.length ?? 3 });
  return writeFolder(join(repository, name), graph, options, {
    'config.json': json({
      architectures: [head === 'classifier' ? 'BertForSequenceClassification' : 'BertModel'],
      hidden_size: hidden,
      max_position_embeddings: options.maxPositions ?? 512,
      model_type: 'bert',
      pad_token_id: 0,
      ...(labels && labelMaps(labels)),
    }),
    ...wordPieceFiles({ maxTokens, ...(paddingSide && { paddingSide }) }),
    ...((pooling || normalize) && { 'modules.json': json(modules(pooling !== undefined, normalize ?? false)) }),
    ...(pooling && { '1_Pooling/config.json': json(poolingConfig(pooling, hidden)) }),
    ...(maxSequenceLength !== undefined && {
      'sentence_bert_config.json': json({ max_seq_length: maxSequenceLength, do_lower_case: false }),
    }),
  });
}

/** Writes a folder with a preprocessor_config.json; returns what was written. */
export function writeImageModel(repository: string, name: string, options: ImageModelOptions = {}): ModelFolder {
  const { labels, channels = 3 } = options;
  const graph = imageGraph({ ...options, labels: labels?.length });
  return writeFolder(join(repository, name), graph, options, {
    'config.json': json({
      architectures: ['ViTForImageClassification'],
      model_type: 'vit',
      num_channels: channels,
      ...(labels && labelMaps(labels)),
    }),
    'preprocessor_config.json': json({
      do_normalize: true,
      do_rescale: true,
      do_resize: true,
      image_mean: new Array(channels).fill(0.5),
      image_processor_type: 'ViTImageProcessor',
      image_std: new Array(channels).fill(0.5),
      resample: 2,
      rescale_factor: 1 / 255,
      size: { height: 8, width: 8 },
      ...options.preprocessor,
    }),
  });
}

function writeFolder(
  directory: string,
  graph: Uint8Array,
  { layout = 'triton', onnxFile = 'model.onnx', config, files: others }: FolderOptions,
  made: Record<string, string>,
): ModelFolder {
  const files: Record<string, string | Uint8Array> = {
    ...made,
    ...(config !== undefined && { 'config.pbtxt': config }),
  };
  for (const [path, content] of Object.entries(others ?? {})) {
    if (content === undefined) delete files[path];
    else files[path] = content;
  }
  const onnxPath = join({ triton: '1', optimum: 'onnx', flat: '' }[layout], onnxFile);
  for (const [path, content] of [...Object.entries(files), [onnxPath, graph] as const]) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return { directory, onnxFile: join(directory, onnxPath), files };
}

function labelMaps(labels: readonly string[]) {
  return {
    id2label: Object.fromEntries(labels.map((label, id) => [id, label])),
    label2id: Object.fromEntries(labels.map((label, id) => [label, id])),
  };
}

/** modules.json of sentence-transformers. */
function modules(pooling: boolean, normalize: boolean) {
  const list = [
    { path: '', type: 'Transformer' },
    ...(pooling ? [{ path: '1_Pooling', type: 'Pooling' }] : []),
    ...(normalize ? [{ path: '2_Normalize', type: 'Normalize' }] : []),
  ];
  return list.map(({ path, type }, idx) => ({
    idx,
    name: String(idx),
    path,
    type: `sentence_transformers.models.${type}`,
  }));
}

function poolingConfig(modes: readonly PoolingMode[], hidden: number) {
  const keys = {
    cls: 'cls_token',
    mean: 'mean_tokens',
    max: 'max_tokens',
    mean_sqrt_len: 'mean_sqrt_len_tokens',
    weightedmean: 'weightedmean_tokens',
    lasttoken: 'lasttoken',
  } as const;
  return {
    word_embedding_dimension: hidden,
    ...Object.fromEntries(
      Object.entries(keys).map(([mode, key]) => [`pooling_mode_${key}`, modes.includes(mode as PoolingMode)]),
    ),
    include_prompt: true,
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
