/**
 * What config.json says of a model that matters to serving it: its classes, its positions, its padding token.
 *
 * Called by huggingface.ts. Pure. Everything that throws throws INVALID_ARGUMENT naming file and field.
 */
import type { JsonFields } from './huggingface-json.js';

export interface HubConfig {
  /** '' where it is not said. */
  readonly modelType: string;
  /** Class names by index; one that has none is ''. */
  readonly labels: readonly string[] | undefined;
  /** Most tokens that the model has positions for. */
  readonly maxTokens: number | undefined;
  readonly padTokenId: number | undefined;
  readonly isMatryoshka: boolean;
  /** Colours of a picture, for an input that leaves them open. */
  readonly channels: number | undefined;
}

export const NO_CONFIG: HubConfig = {
  modelType: '',
  labels: undefined,
  maxTokens: undefined,
  padTokenId: undefined,
  isMatryoshka: false,
  channels: undefined,
};

const LABELS_MAX = 1_000_000;

/** Models whose first token has the position after the padding token's id, so that the first positions are never used. */
const OFFSET_POSITIONS: ReadonlySet<string> = new Set([
  'camembert',
  'data2vec-text',
  'esm',
  'ibert',
  'layoutlmv3',
  'lilt',
  'longformer',
  'luke',
  'markuplm',
  'mluke',
  'mpnet',
  'roberta',
  'roberta-prelayernorm',
  'xlm-roberta',
  'xlm-roberta-xl',
  'xmod',
]);

/** Models that say it under their first authors' name. Not T5, which has that field too, but no table of positions. */
const N_POSITIONS: ReadonlySet<string> = new Set(['codegen', 'ctrl', 'gpt2', 'gpt_bigcode', 'gptj', 'openai-gpt']);

export function parseHubConfig(file: JsonFields): HubConfig {
  // A model of two parts, such as CLIP, says what holds for text in a part of its own.
  const text = file.object('text_config');
  const modelType = file.string('model_type') ?? '';
  const padTokenId = padToken(file) ?? (text && padToken(text));
  const positions = positionsOf(file) ?? (text && positionsOf(text));
  return {
    modelType,
    labels: labels(file),
    maxTokens: positions === undefined ? undefined : usablePositions(positions, modelType, padTokenId),
    padTokenId,
    isMatryoshka: (file.boolean('is_matryoshka') ?? false) || (file.numbers('matryoshka_dimensions') ?? []).length > 0,
    channels: file.number('num_channels') ?? file.object('vision_config')?.number('num_channels'),
  };
}

function padToken(file: JsonFields): number | undefined {
  // -1 is how some say that there is none.
  const id = file.number('pad_token_id');
  if (id === undefined || id === -1) return undefined;
  return file.integer('pad_token_id', 0);
}

function positionsOf(file: JsonFields): number | undefined {
  const name = N_POSITIONS.has(file.string('model_type') ?? '') ? 'n_positions' : 'max_position_embeddings';
  const positions = file.number(name);
  // -1 and 0 are how some say that there is no such number.
  return positions === undefined || positions <= 0 ? positions : file.integer(name, 1);
}

/** Undefined where positions are relative and the number is -1 or 0. */
function usablePositions(positions: number, modelType: string, padTokenId = 1): number | undefined {
  const usable = OFFSET_POSITIONS.has(modelType) ? positions - padTokenId - 1 : positions;
  return usable > 0 ? usable : undefined;
}

function labels(file: JsonFields): string[] | undefined {
  const map = file.object('id2label');
  if (map === undefined) return undefined;
  const keys = map.keys();
  if (keys.length === 0) return undefined;
  const names: string[] = [];
  for (const key of keys) {
    const id = Number(key);
    if (!/^\d{1,7}$/.test(key) || id >= LABELS_MAX) {
      throw file.wrong(
        'id2label',
        `an object whose keys are class numbers below ${LABELS_MAX} (one is ${JSON.stringify(key.slice(0, 32))})`,
      );
    }
    names[id] = map.string(key) ?? '';
  }
  return Array.from(names, (name) => name ?? '');
}
