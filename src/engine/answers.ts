/**
 * Hands results to those who asked, counts them, and knows how many still wait: the end of every admitted request.
 *
 * Called by the scheduler. Owns the in-flight count and an entry's last state change. Each entry comes here exactly once.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { type Batch, type BatchResult, scatter } from './batch.js';
import { classify } from './classification.js';
import type { Entry } from './entry.js';
import { realTokens } from './length-window.js';
import type { Model } from './model.js';
import type { FailureReason } from './statistics.js';
import type { InferOutput, RequestedOutput } from './types.js';

export class Answers {
  readonly #log: Log;
  readonly #idleListeners: (() => void)[] = [];
  #inFlight = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Admitted requests that are not yet answered, cancelled ones included while they run. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** One more request will be answered here. */
  expect(): void {
    this.#inFlight++;
  }

  /** Resolves once nothing is in flight, after the turn in which the last one ended. */
  drained(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  /** Every entry of a batch that ran gets its part, lent until its handler returns. The lease must be held meanwhile. */
  deliver(batch: Batch, result: BatchResult): void {
    const { model, entries, rows, plan } = batch;
    let parts: InferOutput[][];
    try {
      parts = scatter(batch, result);
    } catch (error) {
      for (const entry of entries) this.fail(model, entry, ServeError.from(error), 'BACKEND');
      return;
    }
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      const { timeline } = entry.request;
      timeline.computeStart = result.computeStart;
      timeline.computeEnd = result.computeEnd;
      timeline.batchSize = rows;
      timeline.batchId = batch.id;
      // What was a text or a picture has its own size there already.
      if (timeline.inputBytes === 0) timeline.inputBytes = entry.byteLength;
      let outputs = parts[i]!;
      if (entry.state !== 'cancelled' && entry.request.outputs.some(isAskedAsClasses)) {
        try {
          outputs = withClasses(model, entry, outputs);
        } catch (error) {
          this.fail(model, entry, ServeError.from(error), 'OTHER');
          continue;
        }
      }
      for (const { data } of outputs) timeline.outputBytes += data.byteLength;
      timeline.scattered = nowMs();
      if (this.#end(entry)) this.#respond(model, entry, outputs);
      if (!batch.aside && entry.state === 'done') model.statistics.succeeded(entry.rows, timeline, nowMs());
    }
    if (batch.aside) return;
    const computeMs = result.computeEnd - result.computeStart;
    const inputMs = result.computeStart - entries[0]!.request.timeline.dispatched;
    model.computeTimes.observe(rows, plan.longest, computeMs);
    if (plan.longest > 0) {
      const real = entries.reduce((sum, entry) => sum + realTokens(entry), 0);
      model.statistics.padded(rows * plan.longest, real);
    }
    model.statistics.executed(rows, inputMs, computeMs, nowMs() - result.computeEnd);
  }

  /** The entry is answered with `error`, or with nothing if its caller has gone. */
  fail(model: Model, entry: Entry, error: ServeError, reason: FailureReason): void {
    if (!this.#end(entry)) return;
    model.statistics.failed(reason, nowMs() - entry.request.timeline.queued);
    this.#log.debug({ model: model.name, code: error.code }, error.message);
    try {
      entry.handler.onError(error);
    } catch (thrown) {
      this.#log.error({ error: thrown }, 'a front end threw while it took an error');
    }
  }

  /** The entry is answered with nothing: its caller has gone. */
  drop(entry: Entry): void {
    entry.state = 'cancelled';
    this.#end(entry);
  }

  #respond(model: Model, { handler, request, inputTokens }: Entry, outputs: InferOutput[]): void {
    try {
      const response = { modelName: model.name, modelVersion: model.version, id: request.id, outputs };
      handler.onResponse(inputTokens === undefined ? response : { ...response, inputTokens });
    } catch (error) {
      this.#log.error({ error }, 'a front end threw while it took a response');
    }
  }

  /** Counts the entry out; false when nobody wants its answer any more. */
  #end(entry: Entry): boolean {
    const wanted = entry.state !== 'cancelled';
    if (wanted) entry.state = 'done';
    this.#inFlight--;
    if (this.#inFlight === 0 && this.#idleListeners.length > 0) {
      // In the next turn: the batch that held the last one gives back its lease first.
      setImmediate(() => {
        if (this.#inFlight === 0) for (const resolve of this.#idleListeners.splice(0)) resolve();
      });
    }
    return wanted;
  }
}

function isAskedAsClasses({ classification }: RequestedOutput): boolean {
  return classification !== undefined && classification > 0;
}

/** The outputs, with those that were asked for as classes in that form. */
function withClasses(model: Model, { request, outputs: positions }: Entry, outputs: InferOutput[]): InferOutput[] {
  const { name: modelName, batching, labels } = model;
  return outputs.map((output, i) => {
    const classes = request.outputs[i]!.classification ?? 0;
    if (classes === 0) return output;
    return classify(output, { classes, batching, labels: labels[positions[i]!], modelName });
  });
}
