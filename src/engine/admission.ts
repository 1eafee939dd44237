/**
 * The way of a request from the door to the queue:
 *
 *   find the model ─▶ (wait while it loads) ─▶ (texts, pictures ─▶ preprocess worker ─▶ tensors) ─▶ validate ─▶ queue
 *
 * For tensors to a model that is ready all of it happens at once, in the caller's turn. Called by the engine's door. Owns the requests
 * that are on this way and not in a queue yet: they can be cancelled, they count as accepted, and their model counts as in use.
 */
import { nowMs } from '../base/clock.js';
import { printable, ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Prepared } from '../runtime/preprocess-messages.js';
import type { PreprocessPool } from '../runtime/preprocess-pool.js';
import { type Contents, contentsOf } from './contents.js';
import type { Model } from './model.js';
import type { Registry } from './registry.js';
import type { Scheduler } from './scheduler.js';
import type { Cancel, InferHandler, InferInput, InferRequest } from './types.js';
import { admit } from './validate.js';

export interface AdmissionOptions {
  readonly registry: Registry;
  readonly scheduler: Scheduler;
  readonly preprocess: PreprocessPool;
  /** Bytes of one text. */
  readonly maxTextBytes: number;
  /** Takes requests for a model that generates text, which has no queue. Never throws. */
  readonly generate: (model: Model, request: InferRequest, handler: InferHandler) => Cancel;
  readonly log: Log;
}

/** A request that waits for its model or for a preprocess worker. */
interface Waiting {
  readonly request: InferRequest;
  readonly handler: InferHandler;
  /** Set once the model is there. */
  model?: Model;
  /** Lets go whatever has it: the wait for the model, a worker, or later the scheduler. */
  cancel?: Cancel;
  /** Answered, cancelled or in the queue: nothing that comes for it here counts any more. */
  done: boolean;
}

const NOTHING: Cancel = () => undefined;

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #waiting = new Set<Waiting>();
  #idle: (() => void)[] = [];
  /** Requests refused because no ready model was meant; they have none to be counted on. */
  unknownModelCount = 0;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Requests that are accepted and not in a queue yet. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** Never throws; see InferHandler for what is called. */
  infer(request: InferRequest, handler: InferHandler): Cancel {
    const { registry, scheduler, maxTextBytes } = this.#options;
    let model: Model | undefined;
    try {
      model = registry.find(request.modelName, request.modelVersion);
      if (model) {
        if (model.generation) return this.#options.generate(model, request, handler);
        const contents = contentsOf(model, request, maxTextBytes);
        if (contents) return this.#prepare({ request, handler, model, done: false }, contents);
        const now = nowMs();
        const entry = admit(model, request, handler, now);
        request.timeline.admitted = request.timeline.queued = now;
        scheduler.enqueue(model, entry);
        const target = model;
        return () => scheduler.cancel(target, entry);
      }
    } catch (error) {
      this.#refuse(request, handler, model, error);
      return NOTHING;
    }
    return this.#waitForModel({ request, handler, done: false });
  }

  /** Refuses everything that waits here, or what is on its way to the queue of one model. */
  rejectAll(error: ServeError, only?: Model): void {
    for (const waiting of [...this.#waiting]) {
      if (only && waiting.model !== only) continue;
      waiting.cancel?.();
      this.#fail(waiting, error);
    }
  }

  /** Resolves once nothing waits here. */
  drained(): Promise<void> {
    if (this.#waiting.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #waitForModel(waiting: Waiting): Cancel {
    const { request } = waiting;
    const gone = new AbortController();
    // With a reason: without one each abort makes an error with its stack.
    waiting.cancel = () => gone.abort('gone');
    this.#waiting.add(waiting);
    this.#options.registry.whenReady(request.modelName, request.modelVersion, request.deadlineMs, gone.signal).then(
      (model) => {
        if (waiting.done) return;
        waiting.cancel = undefined;
        if (model.generation) {
          this.#leave(waiting);
          waiting.cancel = this.#options.generate(model, request, waiting.handler);
          return;
        }
        waiting.model = model;
        // It is in use from here on, so that it is not the one that is unloaded for another.
        model.admitting++;
        try {
          const contents = contentsOf(model, request, this.#options.maxTextBytes);
          if (contents) this.#prepare(waiting, contents);
          else this.#enqueue(waiting, request);
        } catch (error) {
          this.#fail(waiting, error);
        }
      },
      (error: unknown) => {
        if (!waiting.done) this.#fail(waiting, error);
      },
    );
    return () => this.#cancel(waiting);
  }

  /** Texts and pictures to the workers; token ids and embeddings are tensors already. Never throws. */
  #prepare(waiting: Waiting, contents: Contents): Cancel {
    const { request } = waiting;
    const model = waiting.model!;
    const { elements, tensors, rowTokens, truncate } = contents;
    request.timeline.admitted = nowMs();
    request.timeline.inputBytes = request.inputs.reduce((sum, { data }) => sum + data.byteLength, 0);
    if (!this.#waiting.has(waiting)) {
      this.#waiting.add(waiting);
      model.admitting++;
    }
    if (elements.length === 0) {
      try {
        this.#enqueue(waiting, { ...request, inputs: tensors }, rowTokens);
      } catch (error) {
        this.#fail(waiting, error);
      }
      return () => this.#cancel(waiting);
    }
    waiting.cancel = this.#options.preprocess.run(
      { processor: model.processorId, contents: elements, truncate, deadlineMs: request.deadlineMs },
      {
        onPrepared: (prepared) => {
          try {
            const made = [...tensors, ...preparedInputs(model, prepared)];
            this.#enqueue(
              waiting,
              { ...request, inputs: made },
              prepared.rowTokens.length > 0 ? prepared.rowTokens : rowTokens,
            );
          } catch (error) {
            this.#fail(waiting, error);
          }
        },
        onError: (error) => this.#fail(waiting, error),
      },
    );
    return () => this.#cancel(waiting);
  }

  /** Throws ServeError as validation and the queue do. */
  #enqueue(waiting: Waiting, request: InferRequest, rowTokens?: readonly number[]): void {
    const { scheduler } = this.#options;
    const model = waiting.model!;
    const now = nowMs();
    const entry = admit(model, request, waiting.handler, now, rowTokens);
    const { timeline } = request;
    timeline.queued = now;
    if (timeline.admitted === 0) timeline.admitted = now;
    scheduler.enqueue(model, entry);
    waiting.cancel = () => scheduler.cancel(model, entry);
    this.#leave(waiting);
  }

  #cancel(waiting: Waiting): void {
    waiting.cancel?.();
    if (waiting.done) return;
    waiting.model?.statistics.failed('CANCELED', nowMs() - waiting.request.timeline.decoded);
    this.#leave(waiting);
  }

  #fail(waiting: Waiting, error: unknown): void {
    if (waiting.done) return;
    this.#leave(waiting);
    this.#refuse(waiting.request, waiting.handler, waiting.model, error);
  }

  #leave(waiting: Waiting): void {
    waiting.done = true;
    if (waiting.model) waiting.model.admitting--;
    this.#waiting.delete(waiting);
    if (this.#waiting.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  #refuse(request: InferRequest, handler: InferHandler, model: Model | undefined, thrown: unknown): void {
    const error = ServeError.from(thrown);
    const { log } = this.#options;
    if (error.cause !== undefined) log.error({ error: error.cause }, 'request failed by a fault of the server');
    if (model) {
      const refused =
        error.code === 'UNAVAILABLE' || error.code === 'RESOURCE_EXHAUSTED' || error.code === 'DEADLINE_EXCEEDED';
      model.statistics.failed(refused ? 'REJECTED' : 'OTHER', nowMs() - request.timeline.decoded);
    } else {
      this.unknownModelCount++;
    }
    log.debug({ model: printable(request.modelName), code: error.code }, error.message);
    handler.onError(error);
  }
}

/** What a worker made, in the shape that the model's inputs have. */
function preparedInputs(model: Model, { tensors }: Prepared): InferInput[] {
  return tensors.map(({ name, datatype, dims, data }) => {
    const spec = model.inputs[model.inputPositions.get(name)!]!;
    // A model without a batch dimension may take one text or picture as it is.
    const single = !model.batching && dims[0] === 1 && spec.dims.length === dims.length - 1;
    return { name, datatype, shape: single ? dims.slice(1) : dims, data };
  });
}
