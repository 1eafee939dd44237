/**
 * Chooses the tokens of one stream: from a row of logits, by what its request says, knowing what it chose before.
 *
 * Called by the token-stream worker, once a step. Owns the stream's random numbers and counts of its own tokens, so that the same request
 * with the same seed chooses the same from the same logits, whoever runs beside it. Knows no text and no model.
 */
import { ServeError } from '#src/base/errors';
import type { Sampling } from '#src/runtime/generation-messages';
import { Draw, largestOf } from './sampler-draw.js';
import { logSumExponential } from './sampler-exponential.js';
import { Random } from './sampler-random.js';
import { LargestOfRow } from './sampler-top.js';

export interface ChosenToken {
  readonly id: number;
  /** The model's own, before anything was done to it. */
  readonly logit: number;
  /** Natural logarithm of the model's own probability; NaN where none was asked for. */
  readonly logprob: number;
  /** As many alternatives as were asked for, likeliest first. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/** Below, the likeliest token has all the probability; dividing by less would overflow. */
const GREEDY_TEMPERATURE = 1e-5;
const NO_ALTERNATIVES: ChosenToken['top'] = [];

/** Samplers of a thread work one after the other: they share the room that they work in. */
const largest = new LargestOfRow();
const drawing = new Draw(largest);

export class Sampler {
  readonly #sampling: Sampling;
  readonly #greedy: boolean;
  readonly #penalties: boolean;
  readonly #random: Random;
  /** Never chosen; and what else is not before the text has its least length. */
  readonly #forbidden: readonly number[];
  readonly #forbiddenFirst: readonly number[];
  /** Tokens of prompt and output, each once, and how often each was chosen; empty where nothing is made of them. */
  readonly #seen: number[] = [];
  readonly #chosen: number[] = [];
  readonly #places = new Map<number, number>();
  #count = 0;
  /** What the row had where it is changed, to be put back. */
  readonly #changedIds: number[] = [];
  readonly #changedValues: number[] = [];

  /** `prompt` is read here and not kept. */
  constructor(sampling: Sampling, prompt: Int32Array, vocabularySize: number) {
    const inVocabulary = (id: number): boolean => id >= 0 && id < vocabularySize;
    this.#sampling = { ...sampling, logitBias: sampling.logitBias.filter(([id]) => inVocabulary(id)) };
    this.#greedy = sampling.temperature < GREEDY_TEMPERATURE;
    this.#random = new Random(sampling.seed);
    this.#forbidden = sampling.suppressTokenIds.filter(inVocabulary);
    this.#forbiddenFirst = [...this.#forbidden, ...sampling.eosTokenIds, ...sampling.stopTokenIds].filter(inVocabulary);
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
    this.#penalties = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
    if (repetitionPenalty !== 1) for (const id of prompt) if (inVocabulary(id)) this.#see(id);
  }

  /** `logits` is one row of the vocabulary's length; it is worked in, and as it was when this returns. Throws where all of it is NaN. */
  choose(logits: Float32Array): ChosenToken {
    this.#forbid(logits);
    if (this.#penalties) this.#punish(logits);
    const id = this.#greedy ? largestOf(logits) : drawing.draw(logits, this.#sampling, this.#random.next());
    this.#putBack(logits);
    if (id < 0) throw new ServeError('INTERNAL', 'the model gave no number for any token that may be chosen');
    this.#count++;
    if (this.#penalties) this.#chosen[this.#see(id)]!++;
    const logit = logits[id]!;
    const { logprobs } = this.#sampling;
    if (logprobs < 0) return { id, logit, logprob: Number.NaN, top: NO_ALTERNATIVES };
    return { id, logit, ...logprobsOf(logits, logit, logprobs) };
  }

  /** The place of a token among those seen, where it is put if it is new. */
  #see(id: number): number {
    let place = this.#places.get(id);
    if (place === undefined) {
      place = this.#seen.push(id) - 1;
      this.#chosen.push(0);
      this.#places.set(id, place);
    }
    return place;
  }

  /** Adds the bias, and takes out what may not be chosen: NaN never is. */
  #forbid(logits: Float32Array): void {
    const { logitBias, minTokens } = this.#sampling;
    for (const [id, bias] of logitBias) this.#change(logits, id, logits[id]! + bias);
    const forbidden = this.#count < minTokens ? this.#forbiddenFirst : this.#forbidden;
    for (const id of forbidden) this.#change(logits, id, Number.NaN);
  }

  #punish(logits: Float32Array): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.#sampling;
    for (let place = 0; place < this.#seen.length; place++) {
      const id = this.#seen[place]!;
      const times = this.#chosen[place]!;
      const logit = logits[id]!;
      // Rounded as a row of 32-bit numbers rounds between steps.
      const repeated = Math.fround(logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty);
      const penalty = times === 0 ? 0 : presencePenalty + times * frequencyPenalty;
      this.#change(logits, id, repeated - penalty);
    }
  }

  #change(logits: Float32Array, id: number, value: number): void {
    this.#changedIds.push(id);
    this.#changedValues.push(logits[id]!);
    logits[id] = value;
  }

  /** Backwards: a token may have been changed twice. */
  #putBack(logits: Float32Array): void {
    for (let i = this.#changedIds.length - 1; i >= 0; i--) logits[this.#changedIds[i]!] = this.#changedValues[i]!;
    this.#changedIds.length = 0;
    this.#changedValues.length = 0;
  }
}

function logprobsOf(logits: Float32Array, logit: number, count: number): Pick<ChosenToken, 'logprob' | 'top'> {
  const best = largestOf(logits);
  const whole = logSumExponential(logits, logits[best]!);
  if (count === 0) return { logprob: logit - whole, top: NO_ALTERNATIVES };
  largest.search(logits, count);
  const top = Array.from({ length: largest.count }, (_, i) => ({
    id: largest.id(i),
    logprob: largest.value(i) - whole,
  }));
  return { logprob: logit - whole, top };
}
