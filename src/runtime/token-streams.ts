/**
 * The engine's side of a token-stream worker: one thread, one decoder, many streams.
 *
 * Called by the engine. Implemented by `token-stream-worker.ts` over a ring and a port; must not know a model's name, a client or a protocol.
 */
import type { ServeError } from '../base/errors.js';
import type { GenerationSpec, LoadedGeneration, RecordDetail, StartStream } from './generation-messages.js';

/** One record of the ring, as read. Lent: the object is used again for the next record. */
export interface StreamRecord {
  /** FLAG_* of generation-messages.ts. */
  readonly flags: number;
  readonly tokenId: number;
  readonly logit: number;
  readonly text: string;
  /** When the token was chosen, on the clock of base/clock.ts. */
  readonly timeMs: number;
  readonly detail: RecordDetail | undefined;
}

/** After FLAG_END, FLAG_FAILED or FLAG_CANCELLED, or after onLost, nothing more. Neither may throw. */
export interface StreamListener {
  onRecord(record: StreamRecord): void;
  /** The thread died with the stream in it. */
  onLost(error: ServeError): void;
}

export interface TokenStreams {
  /** Loads the one decoder; rejects with ServeError. After a loss it is called again, for the new thread. */
  load(spec: GenerationSpec): Promise<LoadedGeneration>;
  /** Returns the stream's number. `tokens` is transferred. */
  start(start: Omit<StartStream, 'type' | 'stream'>, listener: StreamListener): number;
  /** Its listener hears FLAG_CANCELLED, within one step, or another end that was on its way. Ignored for a stream that has ended. */
  cancel(stream: number): void;
  /** The stream may send so many deltas more. Ignored for a stream that has ended. */
  credit(stream: number, deltas: number): void;
  /** Streams that have not ended. */
  readonly streamCount: number;
  /** Counts by `GAUGE`; zeros before the load. */
  readonly gauges: Float64Array;
  /** Releases the session and ends the thread; streams that run get FLAG_FAILED. Resolves when the thread has ended. */
  close(): Promise<void>;
}
