/**
 * Generated text: a request becomes a prompt, the prompt tokens, the tokens a stream.
 *
 *   generate ─▶ find the model ─▶ (wait while it loads) ─▶ check ─▶ (text ─▶ preprocess worker ─▶ tokens) ─▶ the model's thread
 *
 *   infer, inferStream ─▶ admission finds the model ─▶ answer ─▶ the request's tensors ─▶ the same way; deltas become responses
 *
 * Called by the engine's door and by admission. Owns the calls that are accepted and not ended. Must not know a protocol.
 */
import { nowMs } from '../base/clock.js';
import { invalid, printable, ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Prepared } from '../runtime/preprocess-messages.js';
import type { PreprocessPool } from '../runtime/preprocess-pool.js';
import { type CallOwner, GeneratedCall } from './generate-call.js';
import type { Generation } from './generation.js';
import { readGenerationRequest } from './generation-request.js';
import { GenerationResponder } from './generation-responder.js';
import type { GenerateCall, GenerateHandler, GenerateRequest } from './generation-types.js';
import type { Model } from './model.js';
import { checkPromptTokens, type PromptScope, readPrompt } from './prompt.js';
import type { Registry } from './registry.js';
import { checkSampling, resolveSampling, type SamplingScope } from './sampling-parameters.js';
import { StallWatch } from './stall-watch.js';
import { StreamRelay } from './stream-relay.js';
import type { Cancel, InferHandler, InferRequest, InferStreamHandler } from './types.js';

export interface GeneratorOptions {
  readonly registry: Pick<Registry, 'find' | 'whenReady'>;
  readonly preprocess: Pick<PreprocessPool, 'run'>;
  /** The door for requests of all models; comes back to {@link Generator.answer} for one that generates text. */
  readonly infer: (request: InferRequest, handler: InferHandler) => Cancel;
  /** Bytes of one text. */
  readonly maxTextBytes: number;
  /** Streams that may wait for a place at one model. */
  readonly maxWaiting: number;
  /** How long a reader may read nothing while its window is used up. */
  readonly stallTimeoutMs: number;
  readonly log: Log;
}

export class Generator {
  readonly #options: GeneratorOptions;
  readonly #owner: CallOwner;
  readonly #calls = new Set<GeneratedCall>();
  #idle: (() => void)[] = [];
  #stopping = false;
  /** Requests refused because no ready model was meant; they have none to be counted on. */
  unknownModelCount = 0;

  constructor(options: GeneratorOptions) {
    const { log } = options;
    this.#options = options;
    this.#owner = {
      stalls: new StallWatch(options.stallTimeoutMs),
      log,
      ended: (call, model, error) => this.#ended(call, model, error),
    };
  }

  /** Calls accepted and not ended. */
  get inFlight(): number {
    return this.#calls.size;
  }

  generate(request: GenerateRequest, handler: GenerateHandler): GeneratedCall {
    const call = this.#add(request, handler);
    if (!this.#stopping) this.#begin(call);
    else call.refuse(new ServeError('UNAVAILABLE', 'server is shutting down and has stopped accepting new requests'));
    return call;
  }

  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
    const relay = new StreamRelay(handler);
    relay.follow(this.#options.infer(request, relay));
    return relay;
  }

  /** A request by tensors for `model`, which generates text; one of `inferStream` where the handler is its relay. Never throws. */
  answer(model: Model, request: InferRequest, handler: InferHandler): Cancel {
    const stream = handler instanceof StreamRelay ? handler : undefined;
    try {
      if (!stream && !request.wholeText) throw decoupled(request);
      const read = readGenerationRequest(model, request, this.#options.maxTextBytes);
      const responder = new GenerationResponder(model, read, {
        id: request.id,
        streams: stream !== undefined && (read.stream ?? request.streams ?? false),
        // Triton's backends do; who asks for the generated text alone gets that.
        prepends: stream !== undefined && !request.streams,
        handler: stream ?? {
          onResponse: (response) => handler.onResponse(response),
          onError: (e) => handler.onError(e),
        },
      });
      // It was accepted where it came in; it may have waited for its model since.
      const call = this.#add(
        {
          modelName: model.name,
          modelVersion: model.version,
          prompt: read.prompt,
          sampling: read.sampling,
          protocol: request.arm.startsWith('rest') ? 'rest' : 'grpc',
          clientKey: request.clientKey ?? '',
          deadlineMs: request.deadlineMs,
          ...(read.queueTimeoutMs !== undefined && { queueTimeoutMs: read.queueTimeoutMs }),
          timeline: request.timeline,
        },
        responder,
      );
      this.#begin(call);
      responder.follow(call);
      stream?.follow(() => call.cancel(), call);
      return () => call.cancel();
    } catch (thrown) {
      const error = ServeError.from(thrown);
      model.statistics.failed('OTHER', nowMs() - request.timeline.decoded);
      this.#tell(model.name, error);
      handler.onError(error);
      return () => undefined;
    }
  }

  /** Refuses what comes; what is accepted goes on. */
  stopAccepting(): void {
    this.#stopping = true;
  }

  /** Ends everything with `error`, because the server ends; or what asks for one model, which is gone. */
  rejectAll(error: ServeError, only?: Model): void {
    for (const call of [...this.#calls]) {
      if (!only) call.shutDown(error);
      else if (call.model === only) call.refuse(error);
    }
  }

  /** Resolves once no call is left. */
  drained(): Promise<void> {
    if (this.#calls.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #add(request: GenerateRequest, handler: GenerateHandler): GeneratedCall {
    const call = new GeneratedCall(request, handler, this.#owner);
    this.#calls.add(call);
    return call;
  }

  /** Looks for the model of a call that is accepted. */
  #begin(call: GeneratedCall): void {
    const { modelName, modelVersion } = call.request;
    this.#try(call, () => {
      const model = this.#options.registry.find(modelName, modelVersion);
      if (model) this.#admit(call, model);
      else this.#waitForModel(call);
    });
  }

  #waitForModel(call: GeneratedCall): void {
    const { modelName, modelVersion, deadlineMs } = call.request;
    const gone = new AbortController();
    // With a reason: without one each abort makes an error with its stack.
    call.waitFor(() => gone.abort('gone'));
    this.#options.registry.whenReady(modelName, modelVersion, deadlineMs, gone.signal).then(
      (model) => {
        if (!call.isEnded) this.#try(call, () => this.#admit(call, model));
      },
      (error: unknown) => call.refuse(ServeError.from(error)),
    );
  }

  /** Throws ServeError for what the model does not take. */
  #admit(call: GeneratedCall, model: Model): void {
    const { generation, generationProblem } = model;
    call.use(model);
    if (!generation) {
      throw invalid(`model '${model.name}' generates no text${generationProblem && `: ${generationProblem}`}`);
    }
    const { request } = call;
    checkSampling(request.sampling, samplingScope(generation));
    const scope: PromptScope = { modelName: model.name, generation, maxTextBytes: this.#options.maxTextBytes };
    const read = readPrompt(request.prompt, scope);
    request.timeline.admitted = nowMs();
    if (read.kind === 'tokens') {
      this.#start(call, model, generation, read.tokens);
      return;
    }
    const { element } = read;
    const release = this.#options.preprocess.run(
      { processor: model.processorId, contents: [element], truncate: false, deadlineMs: request.deadlineMs },
      {
        onPrepared: (prepared) => {
          this.#try(call, () => {
            const tokens = tokensOf(prepared);
            checkPromptTokens(tokens, scope);
            this.#start(call, model, generation, tokens);
          });
        },
        onError: (error) => call.refuse(error),
      },
    );
    call.waitFor(release);
  }

  #start(call: GeneratedCall, model: Model, generation: Generation, tokens: Int32Array<ArrayBuffer>): void {
    const { streams, spec } = generation;
    if (generation.isLost) {
      throw new ServeError('UNAVAILABLE', `model '${model.name}' was lost with its thread and is being loaded again`);
    }
    if (call.request.deadlineMs <= nowMs()) {
      throw new ServeError('DEADLINE_EXCEEDED', `Deadline Exceeded before the first token of model '${model.name}'`);
    }
    const { maxWaiting } = this.#options;
    if (streams.streamCount >= spec.maxSequences + maxWaiting) {
      throw new ServeError('UNAVAILABLE', `Exceeds maximum queue size (${maxWaiting}) of model '${model.name}'`);
    }
    const room = spec.contextLength - tokens.length;
    call.start(tokens, resolveSampling(call.request.sampling, samplingScope(generation), room));
  }

  #try(call: GeneratedCall, step: () => void): void {
    try {
      step();
    } catch (error) {
      call.refuse(ServeError.from(error));
    }
  }

  #ended(call: GeneratedCall, model: Model | undefined, error: ServeError | undefined): void {
    this.#calls.delete(call);
    if (error) {
      if (!model) this.unknownModelCount++;
      this.#tell(call.request.modelName, error);
    }
    if (this.#calls.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  #tell(modelName: string, error: ServeError): void {
    const { log } = this.#options;
    if (error.cause !== undefined) log.error({ error: error.cause }, 'request failed by a fault of the server');
    log.debug({ model: printable(modelName), code: error.code }, error.message);
  }
}

function samplingScope({ defaults, loaded }: Generation): SamplingScope {
  return { defaults, vocabularySize: loaded.vocabularySize };
}

/** In memory of its own, which goes to the model's thread; what the worker made may be a part of a larger message. */
function tokensOf({ tensors }: Prepared): Int32Array<ArrayBuffer> {
  const { data } = tensors[0]!;
  const tokens = new Int32Array(data.byteLength / 4);
  new Uint8Array(tokens.buffer).set(data);
  return tokens;
}

/** Triton's texts. */
function decoupled({ arm }: InferRequest): ServeError {
  const door = arm.startsWith('rest') ? 'HTTP end point' : 'ModelInfer RPC';
  return new ServeError('UNIMPLEMENTED', `${door} doesn't support models with decoupled transaction policy`);
}
