/**
 * What modules.json of sentence-transformers and the config.json of its Pooling module say: how token embeddings become one.
 *
 * Called by huggingface.ts. Pure. Everything that throws throws INVALID_ARGUMENT naming file and field.
 */
import { printable } from '../base/errors.js';
import type { PoolingSpec } from '../runtime/messages.js';
import type { JsonFields } from './huggingface-json.js';

type Mode = PoolingSpec['modes'][number];

/** The flags of old files, in the order in which sentence-transformers puts several results together. */
const FLAGS: readonly (readonly [flag: string, mode: Mode])[] = [
  ['pooling_mode_cls_token', 'cls'],
  ['pooling_mode_max_tokens', 'max'],
  ['pooling_mode_mean_tokens', 'mean'],
  ['pooling_mode_mean_sqrt_len_tokens', 'mean_sqrt_len'],
  ['pooling_mode_weightedmean_tokens', 'weightedmean'],
  ['pooling_mode_lasttoken', 'lasttoken'],
];

/** The words of new files, which also say mean_sqrt_len_tokens as the flag did. */
const WORDS: ReadonlyMap<string, Mode> = new Map<string, Mode>([
  ...FLAGS.map(([, mode]) => [mode, mode] as const),
  ['mean_sqrt_len_tokens', 'mean_sqrt_len'],
]);

export interface Modules {
  /** Folder of the module that holds tokenizer and model, below that of modules.json; '' = the same. */
  readonly transformerPath: string;
  /** Folder of the Pooling module; undefined where there is none. */
  readonly poolingPath: string | undefined;
  readonly normalize: boolean;
  /** Why these modules can't be done here; '' where they can. */
  readonly problem: string;
}

export function parseModules(list: readonly JsonFields[]): Modules {
  let transformerPath = '';
  let poolingPath: string | undefined;
  let normalize = false;
  let problem = '';
  for (const module of list) {
    // The package's inner layout has changed: sentence_transformers.models.Pooling is only one of its names.
    const type = (module.string('type') ?? '').split('.').at(-1)!;
    const path = module.string('path') ?? '';
    // What comes behind a module that can't be done would be given the wrong thing.
    if (problem !== '') break;
    if (type === 'Transformer' && poolingPath === undefined) transformerPath = path;
    else if (type === 'Pooling' && poolingPath === undefined) poolingPath = path;
    else if (type === 'Normalize') normalize = true;
    else {
      problem =
        `its modules.json has a module '${printable(type)}', which is not applied here ` +
        "(export the model with an output 'sentence_embedding' instead)";
    }
  }
  if (problem === '' && poolingPath === undefined) problem = 'its modules.json has no Pooling module';
  return { transformerPath, poolingPath, normalize, problem };
}

/** How a Pooling module pools; the mean where its file says nothing. */
export function parsePooling(file: JsonFields): PoolingSpec['modes'] {
  const words = file.strings('pooling_mode');
  if (words !== undefined) {
    if (words.length === 0) throw file.wrong('pooling_mode', `at least one of ${[...WORDS.keys()].join(', ')}`);
    return words.map((word) => {
      const mode = WORDS.get(word.toLowerCase());
      if (mode === undefined) throw file.wrong('pooling_mode', `one of ${[...WORDS.keys()].join(', ')}`);
      return mode;
    });
  }
  // As in sentence-transformers, the mean is on where its flag is not there at all.
  const modes = FLAGS.filter(([flag, mode]) => file.boolean(flag) ?? mode === 'mean').map(([, mode]) => mode);
  if (modes.length === 0) throw file.wrong('pooling_mode_mean_tokens', "true where no other 'pooling_mode_...' is");
  return modes;
}
