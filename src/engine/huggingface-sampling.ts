/**
 * How a model's files want its tokens chosen where a request does not say: generation_config.json, else `search` of genai_config.json.
 *
 * Called by huggingface-generation.ts. Pure. A model samples where its file says `do_sample`, or gives a temperature and does not deny it;
 * any other takes the likeliest token, so that nobody gets surprises that the file does not ask for. What Hugging Face's library assumes
 * silently (top_k of 50, 20 tokens) is not assumed. Everything that throws throws INVALID_ARGUMENT naming file and field.
 */
import type { GenerationDefaults } from './generation.js';
import type { JsonFields } from './huggingface-json.js';

/** Settings that would change which tokens come, and are not made here; the value at which each does nothing. */
const IGNORED: Readonly<Record<string, number>> = {
  num_beams: 1,
  no_repeat_ngram_size: 0,
  encoder_no_repeat_ngram_size: 0,
  typical_p: 1,
  epsilon_cutoff: 0,
  eta_cutoff: 0,
  penalty_alpha: 0,
  diversity_penalty: 0,
};

export type SamplingDefaults = Omit<GenerationDefaults, 'eosTokenIds'> & {
  /** For the log. */
  readonly notes: readonly string[];
};

/** `contextLength`: a `max_length` that is no less says nothing. */
export function samplingDefaults(file: JsonFields | undefined, contextLength: number): SamplingDefaults {
  const temperature = temperatureOf(file);
  const samples = temperature > 0;
  // For a model that does not sample these are left over from its training, and a request that samples has its own.
  const sampling = samples ? file : undefined;
  const maxLength = file?.integer('max_length', 0) ?? 0;
  return {
    temperature,
    topK: ranged(sampling, 'top_k', (k) => Number.isSafeInteger(k) && k >= -1, 'a whole number >= 0', 0),
    topP: ranged(sampling, 'top_p', (p) => p > 0 && p <= 1, 'a number in (0, 1]', 1),
    minP: ranged(sampling, 'min_p', (p) => p >= 0 && p <= 1, 'a number in [0, 1]', 0),
    repetitionPenalty: ranged(file, 'repetition_penalty', (penalty) => penalty > 0, 'a number > 0', 1),
    maxTokens:
      file?.integer('max_new_tokens', 1) ?? (maxLength > 0 && maxLength < contextLength ? maxLength : undefined),
    minTokens: file?.integer('min_new_tokens', 0) ?? 0,
    suppressTokenIds: tokenIds(file, 'suppress_tokens'),
    notes: ignored(file),
  };
}

function temperatureOf(file: JsonFields | undefined): number {
  const samples = file?.boolean('do_sample') ?? file?.has('temperature') ?? false;
  if (!samples) return 0;
  return ranged(file, 'temperature', (temperature) => temperature >= 0, 'a number >= 0', 1);
}

function ranged(
  file: JsonFields | undefined,
  field: string,
  fits: (value: number) => boolean,
  expected: string,
  fallback: number,
): number {
  const value = file?.number(field);
  if (value === undefined) return fallback;
  if (!fits(value)) throw file!.wrong(field, expected);
  // -1 is how some say that there is no bound.
  return field === 'top_k' ? Math.max(0, value) : value;
}

/** Ids in `field`, a number or a list. */
export function tokenIds(file: JsonFields | undefined, field: string): readonly number[] {
  const ids = file?.numbers(field) ?? [];
  // -1 is how some say that there is none.
  if (!ids.every((id) => Number.isSafeInteger(id) && id >= -1)) throw file!.wrong(field, 'token ids');
  return ids.filter((id) => id >= 0);
}

function ignored(file: JsonFields | undefined): string[] {
  const fields = Object.entries(IGNORED).filter(
    ([field, neutral]) => file?.isNumber(field) && file.number(field) !== neutral,
  );
  return fields.map(([field]) => `'${field}' of its generation settings is not done here and left out`);
}
