/**
 * One request for generated text from its arrival to its end: what waits, what runs, what its reader has taken.
 *
 *   admitting ──▶ running ──▶ ended          ended from either: answered, refused, cancelled, stalled, too late, lost
 *
 *   worker ──record──▶ onRecord ──delta──▶ front end ──taken──▶ credit, half a window at a time ──▶ worker
 *
 * Made by the generator, which sees to the first state. Owns the window, the deadline, the stamps and the counts of its stream. Each call
 * ends once; a record allocates the delta and nothing else.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import {
  type EndDetail,
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  type Sampling,
} from '../runtime/generation-messages.js';
import type { StreamListener, StreamRecord } from '../runtime/token-streams.js';
import { deltaOf } from './generated-delta.js';
import type { CancelReason } from './generation-counts.js';
import { GenerationMeasures } from './generation-measures.js';
import type { GenerateCall, GeneratedDelta, GenerateHandler, GenerateRequest } from './generation-types.js';
import type { Model } from './model.js';
import type { Stallable, StallWatch } from './stall-watch.js';
import type { FailureReason } from './statistics.js';

/** Deltas on their way or untaken. */
export const WINDOW_DELTAS = 64;

/** The longest that setTimeout can wait, in milliseconds. */
const LONGEST_MS = 2 ** 31 - 1;
/** So much early a timer may fire. */
const TIMER_STEP_MS = 1;

export interface CallOwner {
  readonly stalls: StallWatch;
  readonly log: Log;
  /** The call has ended, however. `model` is undefined where it was refused before one was found. */
  ended(call: GeneratedCall, model: Model | undefined, error: ServeError | undefined): void;
}

export class GeneratedCall implements GenerateCall, StreamListener, Stallable {
  readonly request: GenerateRequest;
  readonly #handler: GenerateHandler;
  readonly #owner: CallOwner;
  #state: 'admitting' | 'running' | 'ended' = 'admitting';
  #model: Model | undefined;
  /** Set once it runs. */
  #measures: GenerationMeasures | undefined;
  /** Lets go whatever has it while it is admitted. */
  #release: (() => void) | undefined;
  #stream = -1;
  /** 0 until they are known. */
  #promptTokens = 0;
  /** Deltas handed over and not taken; and taken, but the worker does not know it yet. */
  #untaken = 0;
  #owed = 0;
  #deadline: NodeJS.Timeout | undefined;
  /** Fires where the first token has not come in the time that the request gives it. */
  #patience: NodeJS.Timeout | undefined;

  constructor(request: GenerateRequest, handler: GenerateHandler, owner: CallOwner) {
    this.request = request;
    this.#handler = handler;
    this.#owner = owner;
  }

  get isEnded(): boolean {
    return this.#state === 'ended';
  }

  /** Undefined until it was found. */
  get model(): Model | undefined {
    return this.#model;
  }

  get promptTokens(): number {
    return this.#promptTokens;
  }

  /** Something is waited for, which `release` lets go. */
  waitFor(release: () => void): void {
    this.#release = release;
  }

  /** The model is there; it is in use until the end. */
  use(model: Model): void {
    this.#model = model;
    model.admitting++;
    this.#watchDeadline();
  }

  /** Hands the prompt to the model's thread. */
  start(tokens: Int32Array<ArrayBuffer>, sampling: Sampling): void {
    const { clientKey, timeline, queueTimeoutMs } = this.request;
    const { generation, statistics } = this.#model!;
    const promptTokens = tokens.length;
    this.#promptTokens = promptTokens;
    this.#release = undefined;
    timeline.queued = nowMs();
    this.#measures = new GenerationMeasures({ timeline, counts: generation!.counts, statistics, promptTokens });
    this.#stream = generation!.streams.start({ tokens, sampling, window: WINDOW_DELTAS, clientKey }, this);
    this.#state = 'running';
    if (queueTimeoutMs !== undefined && queueTimeoutMs <= LONGEST_MS) {
      const expired = () => this.#stop(new ServeError('UNAVAILABLE', 'Request timeout expired'), 'deadline');
      this.#patience = setTimeout(expired, Math.ceil(queueTimeoutMs));
    }
  }

  onRecord(record: StreamRecord): void {
    if (this.#state !== 'running') return;
    const { flags, detail } = record;
    if (flags & (FLAG_FAILED | FLAG_CANCELLED)) {
      const { code, message } = detail?.failure ?? { code: 'UNAVAILABLE', message: 'the stream was cancelled' };
      this.#fail(new ServeError(code, message), 'failed');
      return;
    }
    const measures = this.#measures!;
    if (this.#patience !== undefined) this.#stopPatience();
    if (flags & FLAG_TOKEN) measures.chosen(record.timeMs);
    this.#untaken++;
    const delta = deltaOf(record, this.#promptTokens);
    if (flags & FLAG_END) {
      this.#finish(delta, detail!.end!, measures);
      return;
    }
    this.#handOver(delta);
    measures.handedOver();
    if (this.#state === 'running' && this.#isWindowUsedUp) this.#owner.stalls.watch(this);
  }

  onLost(error: ServeError): void {
    this.#fail(error, 'lost');
  }

  onStalled(): void {
    const seconds = this.#owner.stalls.timeoutMs / 1e3;
    this.#stop(
      new ServeError(
        'RESOURCE_EXHAUSTED',
        `the stream stalled: nothing of the ${this.#untaken} tokens that wait was read for ${seconds} s`,
      ),
      'stalled',
    );
  }

  taken(deltas: number): void {
    if (this.#state !== 'running') return;
    const wasUsedUp = this.#isWindowUsedUp;
    const counted = Math.min(deltas, this.#untaken);
    this.#untaken -= counted;
    this.#owed += counted;
    if (this.#owed >= WINDOW_DELTAS / 2) {
      this.#streams.credit(this.#stream, this.#owed);
      this.#owed = 0;
    }
    if (!wasUsedUp || counted === 0) return;
    if (this.#isWindowUsedUp) this.#owner.stalls.watch(this);
    else this.#owner.stalls.forget(this);
  }

  cancel(): void {
    if (this.#state === 'ended') return;
    this.#letGo();
    // At its deadline a caller leaves, or its front end lets it go, before our own timer fires.
    const isLate = nowMs() > this.request.deadlineMs - TIMER_STEP_MS;
    this.#end(isLate ? 'deadline' : 'client', 'CANCELED', undefined);
  }

  /** Ends it with `error`, whatever it waits for. */
  refuse(error: ServeError): void {
    this.#stop(error, 'refused');
  }

  /** As {@link refuse}, because the server ends. */
  shutDown(error: ServeError): void {
    this.#stop(error, 'shutdown');
  }

  /** The worker makes no step for it. */
  get #isWindowUsedUp(): boolean {
    return this.#untaken + this.#owed >= WINDOW_DELTAS;
  }

  get #streams() {
    return this.#model!.generation!.streams;
  }

  /** Ends it on this side and at the worker. */
  #stop(error: ServeError, how: 'refused' | 'deadline' | 'stalled' | 'shutdown'): void {
    if (this.#state === 'ended') return;
    this.#letGo();
    this.#fail(error, how);
  }

  #letGo(): void {
    if (this.#state === 'running') this.#streams.cancel(this.#stream);
    else this.#release?.();
  }

  #fail(error: ServeError, how: CancelReason | 'refused' | 'failed'): void {
    if (this.#state === 'ended') return;
    this.#end(how, failureReason(how, error, this.#measures?.tokens ?? 0), error);
    this.#tell(error);
  }

  #tell(error: ServeError): void {
    try {
      this.#handler.onError(error);
    } catch (thrown) {
      this.#owner.log.error({ error: thrown }, 'a front end threw while it took an error');
    }
  }

  /** What every early end has in common. */
  #end(how: CancelReason | 'refused' | 'failed', reason: FailureReason, error: ServeError | undefined): void {
    const model = this.#model;
    this.#leave();
    const counts = model?.generation?.counts;
    if (how === 'failed') counts!.failed++;
    else if (how !== 'refused' && counts) counts.cancelled[how]++;
    model?.statistics.failed(reason, nowMs() - this.request.timeline.decoded);
    this.#owner.ended(this, model, error);
  }

  #leave(): void {
    this.#state = 'ended';
    this.#release = undefined;
    this.#owner.stalls.forget(this);
    clearTimeout(this.#deadline);
    this.#stopPatience();
    if (this.#model) this.#model.admitting--;
  }

  #stopPatience(): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
  }

  #handOver(delta: GeneratedDelta): void {
    try {
      this.#handler.onDelta(delta);
    } catch (error) {
      this.#owner.log.error({ error }, 'a front end threw while it took generated text');
      const failure = new ServeError('INTERNAL', 'internal error');
      // Whoever waits is told, also where this was the last delta.
      if (this.#state === 'ended') this.#tell(failure);
      else {
        this.#letGo();
        this.#fail(failure, 'failed');
      }
    }
  }

  #finish(delta: GeneratedDelta, end: EndDetail, measures: GenerationMeasures): void {
    measures.ended(end);
    this.#leave();
    this.#handOver(delta);
    measures.handedOver();
    measures.answered(end);
    this.#owner.ended(this, this.#model, undefined);
  }

  #tooLate(): ServeError {
    const { name } = this.#model!;
    const tokens = this.#measures?.tokens ?? 0;
    const when = tokens > 0 ? `after ${tokens} tokens` : 'before the first token';
    return new ServeError('DEADLINE_EXCEEDED', `Deadline Exceeded ${when} of model '${name}'`);
  }

  #watchDeadline(): void {
    const { deadlineMs } = this.request;
    if (deadlineMs === Number.POSITIVE_INFINITY) return;
    const leftMs = Math.max(0, Math.ceil(deadlineMs - nowMs()));
    this.#deadline = setTimeout(
      () => {
        if (nowMs() < deadlineMs) this.#watchDeadline();
        else this.#stop(this.#tooLate(), 'deadline');
      },
      Math.min(LONGEST_MS, leftMs),
    );
  }
}

/** What the statistics call it. */
function failureReason(how: CancelReason | 'refused' | 'failed', { code }: ServeError, tokens: number): FailureReason {
  if (how === 'failed' || how === 'lost') return 'BACKEND';
  if (how === 'stalled' || (how === 'deadline' && tokens > 0)) return 'CANCELED';
  if (how !== 'refused') return 'REJECTED';
  const full = code === 'UNAVAILABLE' || code === 'RESOURCE_EXHAUSTED' || code === 'DEADLINE_EXCEEDED';
  return full ? 'REJECTED' : 'OTHER';
}
