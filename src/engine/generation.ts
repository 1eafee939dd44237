/**
 * What a model that generates text is beside an ordinary one: its thread, what its files say of sampling, how prompts become tokens.
 *
 * Made by the loader (generation-loader.ts), read by generator.ts. Types only.
 */
import type { GenerationSpec, LoadedGeneration } from '../runtime/generation-messages.js';
import type { TokenStreams } from '../runtime/token-streams.js';
import type { GenerationCounts } from './generation-counts.js';

/** What generation_config.json (and genai_config.json's `search`) say, where a request does not. */
export interface GenerationDefaults {
  /** 0 where the model is not one that samples by default. */
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  /** Undefined = as many as the context has room for. */
  readonly maxTokens: number | undefined;
  readonly minTokens: number;
  readonly eosTokenIds: readonly number[];
  readonly suppressTokenIds: readonly number[];
}

export interface Generation {
  readonly spec: GenerationSpec;
  readonly loaded: LoadedGeneration;
  readonly streams: TokenStreams;
  readonly defaults: GenerationDefaults;
  /** Counts and times of its streams, for the metrics and the statistics. */
  readonly counts: GenerationCounts;
  /** Why it takes no conversations; '' where it does. */
  readonly chatProblem: string;
  /** Its thread died and is being brought back: streams can't be started meanwhile. */
  isLost: boolean;
}
