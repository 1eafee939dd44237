/**
 * The client over gRPC: the Open Inference Protocol, with Triton's ModelStreamInfer for streams and generated text.
 *
 * Made by `connect` in `client.ts`. Each method is a line from tensors to tensors: check, encode, call, decode, budget. Owns
 * what was learnt of models; connections, tries and addresses are beneath `grpc-calls.ts`. A caller's arrays are copied when they are sent:
 * they must not change before the call is answered.
 */
import { createAnswer, type DecodedAnswer } from './answer.js';
import type { Budget } from './budget.js';
import type { CallScope } from './call-scope.js';
import { ClientError, refusal } from './client-error.js';
import { GrpcCalls } from './grpc-calls.js';
import { decodeInferResponse, decodeStreamResponse } from './grpc-decode.js';
import type { GrpcEncoding } from './grpc-encode.js';
import { generatedText, generateTensors } from './grpc-generate.js';
import * as methods from './grpc-methods.js';
import { OutgoingInfer } from './grpc-outgoing.js';
import type { AnswerStream } from './grpc-stream.js';
import type { Tried } from './grpc-tries.js';
import { MetadataCache } from './metadata-cache.js';
import { assertInferRequest, assertRequest, type ModelFacts } from './request-check.js';
import type {
  CallOptions,
  ClientOptions,
  GeneratedPiece,
  GeneratedStream,
  GenerateRequest,
  InferAnswer,
  InferenceClient,
  InferRequest,
  ModelMetadata,
  ServerMetadata,
} from './types.js';

/** A client over gRPC. Opens no connection before the first call; throws a local INVALID_ARGUMENT for options that can't be. */
export function createGrpcClient(options: ClientOptions): InferenceClient {
  return new GrpcClient(options);
}

/** One message of a stream, and the call it belongs to. */
interface StreamedAnswer {
  readonly answer: DecodedAnswer;
  readonly outgoing: OutgoingInfer;
  readonly stream: Tried<AnswerStream>;
}

class GrpcClient implements InferenceClient {
  readonly protocol = 'grpc';
  readonly #calls: GrpcCalls;
  readonly #encoding: GrpcEncoding;
  readonly #checks: boolean;
  readonly #known: MetadataCache;

  constructor(options: ClientOptions) {
    const { encoding = 'raw', checkRequests = true } = options;
    if (encoding !== 'raw' && encoding !== 'typed')
      throw refusal(`encoding is '${encoding}', over gRPC it is 'raw' or 'typed'`);
    this.#encoding = encoding;
    this.#checks = checkRequests;
    this.#calls = new GrpcCalls(options);
    this.#known = new MetadataCache((model, version) => this.#facts(model, version));
  }

  isLive(options?: CallOptions): Promise<boolean> {
    return this.#calls.small(methods.serverLive, {}, options);
  }

  isReady(options?: CallOptions): Promise<boolean> {
    return this.#calls.small(methods.serverReady, {}, options);
  }

  async isModelReady(model: string, version = '', options?: CallOptions): Promise<boolean> {
    try {
      return await this.#calls.small(methods.modelReady, { name: model, version }, options);
    } catch (error) {
      // Some servers say no by the status.
      if (error instanceof ClientError && (error.code === 'NOT_FOUND' || error.code === 'INVALID_ARGUMENT'))
        return false;
      throw error;
    }
  }

  serverMetadata(options?: CallOptions): Promise<ServerMetadata> {
    return this.#calls.small(methods.serverMetadata, {}, options);
  }

  modelMetadata(model: string, version = '', options?: CallOptions): Promise<ModelMetadata> {
    return this.#calls.small(methods.modelMetadata, { name: model, version }, options);
  }

  infer(request: InferRequest, options: CallOptions = {}): Promise<InferAnswer> {
    return this.#calls.run(options, async (scope) => {
      const outgoing = await this.#encode(request, options, scope);
      try {
        const tried = await this.#calls.unary(
          { path: methods.MODEL_INFER, message: outgoing.message, decode: decodeInferResponse },
          options,
          scope,
        );
        return createAnswer(tried.reply.answer, outgoing.budgetOfReply(tried));
      } catch (error) {
        if (error instanceof ClientError) this.#known.refused(request, error.code);
        throw error;
      }
    });
  }

  async *inferStream(request: InferRequest, options?: CallOptions): AsyncGenerator<InferAnswer, undefined, undefined> {
    for await (const { answer, outgoing, stream } of this.#answers(async () => ({ request }), options)) {
      // The last word of a model that has said all before.
      if (answer.outputs.length === 0 && answer.parameters.triton_final_response === true) continue;
      yield createAnswer(answer, outgoing.budgetOfStream(stream, timingOf(answer)));
    }
  }

  async generate(request: GenerateRequest, options?: CallOptions): Promise<{ text: string; budget: Budget }> {
    const { promise, resolve } = Promise.withResolvers<Budget>();
    let text = '';
    for await (const piece of this.#pieces(request, options, { isStream: false, resolve })) text += piece.text;
    return { text, budget: await promise };
  }

  generateStream(request: GenerateRequest, options?: CallOptions): GeneratedStream {
    const { promise, resolve, reject } = Promise.withResolvers<Budget>();
    // Nobody has to ask for the budget.
    promise.catch(() => undefined);
    const pieces = this.#pieces(request, options, { isStream: true, resolve, reject });
    let isBegun = false;
    return {
      budget: promise,
      [Symbol.asyncIterator]() {
        if (isBegun) throw refusal('a generated stream can be read once', 'FAILED_PRECONDITION');
        isBegun = true;
        return pieces;
      },
    };
  }

  close(): Promise<void> {
    return this.#calls.close();
  }

  /** Checked and measured; waits where the model has to be asked for first. */
  async #encode(
    request: InferRequest,
    options: CallOptions,
    scope: CallScope,
    askedMs?: number,
  ): Promise<OutgoingInfer> {
    assertInferRequest(request);
    const checking = this.#checks ? this.#known.check(request) : undefined;
    if (checking !== undefined) await scope.wait(checking);
    return new OutgoingInfer(request, {
      encoding: this.#encoding,
      isGzip: this.#calls.isGzip(options),
      calledMs: scope.calledMs,
      checkedMs: checking ? performance.now() : askedMs,
    });
  }

  async #facts(name: string, version: string): Promise<ModelFacts> {
    const options = { isAside: true };
    const [metadata, optional] = await Promise.all([
      this.#calls.small(methods.modelMetadata, { name, version }, options),
      // Triton's extension: others don't tell.
      this.#calls.small(methods.optionalInputs, { name, version }, options).catch(() => undefined),
    ]);
    return { metadata, optional };
  }

  /** All messages of a stream. Ending the iteration cancels the call. */
  async *#answers(
    build: (scope: CallScope) => Promise<BuiltRequest>,
    options: CallOptions = {},
  ): AsyncGenerator<StreamedAnswer, undefined, undefined> {
    const scope = this.#calls.begin(options);
    let stream: Tried<AnswerStream> | undefined;
    let request: InferRequest | undefined;
    try {
      const built = await build(scope);
      request = built.request;
      const outgoing = await this.#encode(request, options, scope, built.checkedMs);
      const opened = await this.#calls.open(outgoing.message, options, scope);
      stream = opened;
      for (let bytes = await opened.reply.next(); bytes !== undefined; bytes = await opened.reply.next()) {
        // What has come already is nothing to a caller who has ended the call.
        scope.check();
        const { error, answer } = decodeStreamResponse(bytes);
        if (error !== '') throw new ClientError('UNKNOWN', error);
        if (answer !== undefined) yield { answer, outgoing, stream: opened };
      }
    } catch (error) {
      if (request && error instanceof ClientError) this.#known.refused(request, error.code);
      throw error;
    } finally {
      stream?.reply.cancel();
      this.#calls.end(scope);
    }
  }

  async *#pieces(
    request: GenerateRequest,
    options: CallOptions | undefined,
    { isStream, resolve, reject }: Generation,
  ): AsyncGenerator<GeneratedPiece, undefined, undefined> {
    let last: StreamedAnswer | undefined;
    try {
      const build = async (scope: CallScope) => {
        assertRequest(request);
        const known = this.#known.facts(request);
        const facts = known instanceof Promise ? await scope.wait(known) : known;
        const checkedMs = known instanceof Promise ? performance.now() : undefined;
        return { request: generateTensors(request, facts?.metadata, isStream), checkedMs };
      };
      for await (last of this.#answers(build, options))
        if (last.answer.outputs.length > 0) yield { text: generatedText(last.answer) };
      if (last === undefined) throw new ClientError('INTERNAL', 'the server ended the stream without an answer');
      resolve(last.outgoing.budgetOfStream(last.stream, timingOf(last.answer)));
    } catch (error) {
      reject?.(error);
      throw error;
    } finally {
      reject?.(new ClientError('CANCELLED', 'the stream was not read to its end'));
    }
  }
}

/** The request of a stream, and when the model's metadata were there, where building it had to ask for them. */
interface BuiltRequest {
  readonly request: InferRequest;
  readonly checkedMs?: number | undefined;
}

interface Generation {
  readonly isStream: boolean;
  /** Called at the end of the text; `reject` where it does not come. */
  readonly resolve: (budget: Budget) => void;
  readonly reject?: (error: unknown) => void;
}

/** What this server tells of its phases in the last message of a stream. */
function timingOf({ parameters }: DecodedAnswer): string | undefined {
  const timing = parameters.server_timing;
  return typeof timing === 'string' ? timing : undefined;
}
