/**
 * One version of one model as the engine serves it: what its tensors must be, where its sessions live, what waits for it.
 *
 * Made by the registry when the first session has loaded; read by validation, the scheduler and the engine's door.
 */

import type { ProcessorSpec } from '../runtime/preprocess-messages.js';
import type { BatchPlan } from './batch-plan.js';
import type { BatchPolicy } from './batcher.js';
import type { ComputeTimes } from './compute-times.js';
import type { Generation } from './generation.js';
import type { ModelConfig } from './model-config.js';
import type { RequestQueue } from './request-queue.js';
import type { Statistics } from './statistics.js';
import type { TensorSpec } from './tensor-spec.js';
import type { ModelContent } from './types.js';

/** An input that a request may send in place of raw tensors. */
export interface ContentInput {
  readonly name: string;
  readonly kind: 'text' | 'text_pair' | 'image';
  /** Positions of the raw inputs that are made from it. */
  readonly makes: readonly number[];
}

export interface Model {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  /** The session's number, the same on every worker that has one. */
  readonly session: number;
  /** Workers with a ready session; the registry adds and removes. */
  readonly workers: Set<number>;
  /** In the config's order. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly inputPositions: ReadonlyMap<string, number>;
  readonly outputPositions: ReadonlyMap<string, number>;
  /** maxBatchSize > 0: tensors have a leading batch dimension. */
  readonly batching: boolean;
  readonly policy: BatchPolicy;
  readonly queue: RequestQueue;
  readonly statistics: Statistics;
  /** What a request may send in place of raw tensors; empty for most models. */
  readonly contents: readonly ContentInput[];
  /** How contents become tensors. */
  readonly processor: ProcessorSpec;
  /** The processor's number in the preprocess pool; -1 = there is none. */
  readonly processorId: number;
  /**
   * By input position, for the inputs that are made from text: what fills the token axis, the first after the batch, so that texts
   * of different lengths can run together. Undefined for all others.
   */
  readonly padding: readonly (number | undefined)[];
  /** Output positions that a request which names none gets. */
  readonly defaultOutputs: readonly number[];
  /** Class names by output position. */
  readonly labels: readonly (readonly string[] | undefined)[];
  /** What the front ends are told of it. */
  readonly content: ModelContent;
  /** Set for a model that generates text: it has no session on the inference workers, and no batches. */
  readonly generation: Generation | undefined;
  /** Why it generates no text although its folder looks as if it could; '' where there is nothing to say. */
  readonly generationProblem: string;
  readonly computeTimes: ComputeTimes;
  /** Layouts already worked out, by rows and shapes; emptied when it grows past its bound. */
  readonly plans: Map<string, BatchPlan>;
  /** The graph divides integers of the request; see validate.ts. */
  readonly integerDivision: boolean;
  /** Requests on their way from the door to the queue (admission.ts): the model is in use. */
  admitting: number;
  /** An output once had another shape than its symbols say: nothing is preallocated any more. */
  outputsUnpredictable: boolean;
}
