/**
 * One admitted request on its way through queue, batch and worker.
 *
 *   queued ──▶ running ──▶ done          cancelled from any of the first two; a cancelled running one finishes unheard
 *
 * Made by validation; owned by the request queue while queued, by its batch while running.
 */
import type { InferHandler, InferRequest } from './types.js';

export type EntryState = 'queued' | 'running' | 'done' | 'cancelled';

export interface Entry {
  readonly request: InferRequest;
  readonly handler: InferHandler;
  /** Size of its batch dimension; 1 for a model that does not batch. */
  readonly rows: number;
  /** Raw bytes by the model's input positions; undefined where an optional input is absent. Views on the received message. */
  readonly data: readonly (Uint8Array | undefined)[];
  /** The session's dimensions of each input without the batch dimension. */
  readonly dims: readonly (readonly number[] | undefined)[];
  /** Positions of the outputs asked for, in the order of the reply. */
  readonly outputs: readonly number[];
  /**
   * Tokens in each row, padding not counted, for an entry made from text: its token tensors may be padded further, to the longest of a
   * batch. Undefined for all others, whose shapes are exact, those of a model of one length among them.
   */
  readonly rowTokens: readonly number[] | undefined;
  /** Tokens that its texts became, padding not counted; undefined where it had no text. */
  readonly inputTokens: number | undefined;
  /** Length of its token tensors, the largest of `rowTokens`; 0 without. */
  readonly tokens: number;
  /** Requests with equal keys may run in one batch. */
  readonly groupKey: string;
  readonly byteLength: number;
  /** Priority level, 1 = first. */
  readonly level: number;
  /** When the queue gives it up, on the monotonic clock; Infinity = never. */
  readonly expiresMs: number;
  /** At `expiresMs`: refuse it, or let the others go first. */
  readonly timeoutAction: 'REJECT' | 'DELAY';
  state: EntryState;
  /** Fires at `expiresMs` while queued. */
  timer: NodeJS.Timeout | undefined;
  /** Its queue timeout has passed (timeout action DELAY): all others of its level go first. */
  delayed: boolean;
  /** It was in a batch that failed: it runs alone, so that it can't fail its neighbours again. */
  alone: boolean;
}
