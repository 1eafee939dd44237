/**
 * The client over REST: the Open Inference Protocol with the binary tensor extension and Triton's generate extension, on HTTP/1.1.
 *
 * Made by `connect` in `client.ts`. Each method is a line from tensors to tensors: encode, call, decode, budget. Owns the connections and
 * what was learnt of models; deadlines, retries and addresses are `rest-call.ts`'s.
 */
import { createAnswer, DEFAULT_MAX_RECEIVE_BYTES } from './answer.js';
import { type Budget, budgetOf, parseServerTiming } from './budget.js';
import type { CallScope } from './call-scope.js';
import { type ClientError, refusal } from './client-error.js';
import { MetadataCache } from './metadata-cache.js';
import { type OpenCallOptions, OpenCalls } from './open-calls.js';
import { assertInferRequest, assertRequest, type ModelFacts } from './request-check.js';
import { BinaryHint } from './rest-binary-hint.js';
import { type CallPolicy, type CallResult, call, deflated, inflated, type RestRequest } from './rest-call.js';
import { Connections } from './rest-connections.js';
import { decodeInferBody } from './rest-decode.js';
import { encodeInferBody, type RestEncoding } from './rest-encode.js';
import { jsonLengthOf } from './rest-exchange.js';
import {
  generateBody,
  generatedText,
  modelPath,
  parseModelMetadata,
  parseOptionalInputs,
  parseServerMetadata,
} from './rest-metadata.js';
import { createGeneratedStream } from './rest-stream.js';
import { type RetryPolicy, retryPolicy } from './retry.js';
import { traceHeaders } from './trace-context.js';
import type {
  CallOptions,
  ClientOptions,
  GeneratedStream,
  GenerateRequest,
  InferAnswer,
  InferenceClient,
  InferRequest,
  ModelMetadata,
  ServerMetadata,
} from './types.js';

/** A client over REST. Opens no connection before the first call; throws a local INVALID_ARGUMENT for options that can't be. */
export function createRestClient(options: ClientOptions): InferenceClient {
  return new RestClient(options);
}

/** A body on its way: its bytes as sent, its headers, when it was ready. */
interface Encoded {
  readonly body: Buffer;
  readonly headers: Record<string, string>;
  readonly encodedMs: number;
}

class RestClient implements InferenceClient {
  readonly protocol = 'rest';
  readonly #options: ClientOptions;
  readonly #encoding: RestEncoding;
  readonly #connections: Connections;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #retry: RetryPolicy;
  readonly #maxReceiveBytes: number;
  readonly #facts: MetadataCache | undefined;
  readonly #open: OpenCalls;
  /** Where tensors travel in binary. */
  readonly #hint: BinaryHint | undefined;

  constructor(options: ClientOptions) {
    const { encoding = 'binary', retry, maxReceiveBytes = DEFAULT_MAX_RECEIVE_BYTES } = options;
    if (encoding !== 'binary' && encoding !== 'json') {
      throw refusal(`encoding is '${encoding}', over REST it is 'binary' or 'json'`);
    }
    this.#options = options;
    this.#encoding = encoding;
    this.#retry = retryPolicy(retry);
    this.#maxReceiveBytes = maxReceiveBytes;
    this.#connections = new Connections(options);
    this.#headers = lowerCased(options.headers ?? {});
    this.#open = new OpenCalls(options);
    if (encoding === 'binary') this.#hint = new BinaryHint(() => this.#extensions());
    if (options.checkRequests ?? true) {
      this.#facts = new MetadataCache((model, version) => this.#fetchFacts(model, version));
    }
  }

  isLive(options?: CallOptions): Promise<boolean> {
    return this.#health('/v2/health/live', options);
  }

  isReady(options?: CallOptions): Promise<boolean> {
    return this.#health('/v2/health/ready', options);
  }

  async isModelReady(model: string, version?: string, options?: CallOptions): Promise<boolean> {
    return this.#health(modelPath(model, version, '/ready'), options);
  }

  async serverMetadata(options: CallOptions = {}): Promise<ServerMetadata> {
    return parseServerMetadata(await this.#get('/v2', options));
  }

  async modelMetadata(model: string, version?: string, options: CallOptions = {}): Promise<ModelMetadata> {
    return parseModelMetadata(await this.#get(modelPath(model, version, ''), options));
  }

  infer(request: InferRequest, options: CallOptions = {}): Promise<InferAnswer> {
    return this.#open.run(options, async (scope) => {
      assertInferRequest(request);
      const path = modelPath(request.model, request.version, '/infer');
      const checkedMs = await this.#check(request, scope);
      const encoded = await this.#pack(encodeInferBody(request, this.#encoding), options);
      const result = await this.#post(path, encoded, scope, options, this.#policy).catch(async (error: ClientError) => {
        this.#facts?.refused(request, error.code);
        throw this.#hint ? await scope.wait(this.#hint.explain(error)).catch(() => error) : error;
      });
      this.#hint?.answered();
      const body = await inflated(result.body, result.headers, this.#maxReceiveBytes);
      const decoded = decodeInferBody(body, jsonLengthOf(result.headers));
      return createAnswer(decoded, budgetOfCall(scope, encoded, result, checkedMs));
    });
  }

  // biome-ignore lint/correctness/useYield: it is an iterable that always fails, as calls do: when it is used
  async *inferStream(): AsyncGenerator<InferAnswer, undefined, undefined> {
    throw refusal(
      "the protocol has no stream of answers over REST: connect with protocol 'grpc', or use generateStream for text",
      'UNIMPLEMENTED',
    );
  }

  generate(request: GenerateRequest, options: CallOptions = {}): Promise<{ text: string; budget: Budget }> {
    return this.#open.run(options, async (scope) => {
      assertRequest(request);
      const path = modelPath(request.model, request.version, '/generate');
      const encoded = await this.#pack({ body: generateBody(request, WITHOUT_PROMPT), headers: JSON_BODY }, options);
      const result = await this.#post(path, encoded, scope, options, this.#policy);
      const text = generatedText(await inflated(result.body, result.headers, this.#maxReceiveBytes), 'the answer');
      return { text, budget: budgetOfCall(scope, encoded, result) };
    });
  }

  generateStream(request: GenerateRequest, options: CallOptions = {}): GeneratedStream {
    return createGeneratedStream({
      maxReceiveBytes: this.#maxReceiveBytes,
      scope: () => this.#open.begin(options),
      end: (scope) => this.#open.end(scope),
      send: async (sink, scope) => {
        assertRequest(request);
        const path = modelPath(request.model, request.version, '/generate_stream');
        // Servers of Triton's vLLM backend send all at once without it.
        const body = generateBody(request, { ...WITHOUT_PROMPT, stream: true });
        const encoded = await this.#pack({ body, headers: { ...JSON_BODY, accept: 'text/event-stream' } }, options);
        const result = await this.#post(
          path,
          encoded,
          scope,
          { ...options, compression: 'none' },
          { ...this.#policy, sink },
        );
        return { result, encodedMs: encoded.encodedMs, requestBytes: encoded.body.length };
      },
    });
  }

  close(): Promise<void> {
    return this.#open.close(() => this.#connections.close());
  }

  /** When the model's metadata were there, where they had to be asked for; rejects for a request that they forbid. */
  async #check(request: InferRequest, scope: CallScope): Promise<number | undefined> {
    const asking = this.#facts?.check(request);
    if (asking === undefined) return undefined;
    await scope.wait(asking);
    return performance.now();
  }

  async #fetchFacts(model: string, version: string): Promise<ModelFacts> {
    const options = { isAside: true };
    const [metadata, optional] = await Promise.all([
      this.#get(modelPath(model, version, ''), options).then(parseModelMetadata),
      // Triton's extension: others don't tell.
      this.#get(modelPath(model, version, '/config'), options)
        .then(parseOptionalInputs)
        .catch(() => undefined),
    ]);
    return { metadata, optional };
  }

  async #extensions(): Promise<readonly string[]> {
    return parseServerMetadata(await this.#get('/v2', { isAside: true, timeoutMs: HINT_TIMEOUT_MS })).extensions;
  }

  get #policy(): CallPolicy {
    return { retry: this.#retry, maxReceiveBytes: this.#maxReceiveBytes };
  }

  async #pack(
    { body, headers }: { body: Buffer; headers: Record<string, string> },
    { compression = this.#options.compression }: CallOptions,
  ): Promise<Encoded> {
    if (compression !== 'gzip') return { body, headers, encodedMs: performance.now() };
    const packed = await deflated(body);
    return { body: packed, headers: { ...headers, 'content-encoding': 'gzip' }, encodedMs: performance.now() };
  }

  #post(
    path: string,
    { body, headers }: Encoded,
    scope: CallScope,
    options: CallOptions,
    policy: CallPolicy,
  ): Promise<CallResult> {
    return this.#send({ method: 'POST', path, headers, body }, scope, options, policy);
  }

  #get(path: string, options: OpenCallOptions): Promise<Buffer> {
    return this.#open.run(options, async (scope) => {
      const policy = options.isAside ? { ...this.#policy, retry: { ...this.#retry, attempts: 1 } } : this.#policy;
      const { body, headers } = await this.#send({ method: 'GET', path, headers: {} }, scope, options, policy);
      return inflated(body, headers, this.#maxReceiveBytes);
    });
  }

  #send(request: RestRequest, scope: CallScope, options: CallOptions, policy: CallPolicy): Promise<CallResult> {
    const { compression = this.#options.compression } = options;
    const headers = {
      ...(compression === 'gzip' && { 'accept-encoding': 'gzip' }),
      ...this.#headers,
      ...(options.headers && lowerCased(options.headers)),
      ...traceHeaders(),
      ...request.headers,
    };
    return call(this.#connections, { ...request, headers }, policy, scope);
  }

  /** What the status says: 200 is yes; what a server says that is not there, not ready or stopping is no. */
  async #health(path: string, options: CallOptions = {}): Promise<boolean> {
    return this.#open.run(options, async (scope) => {
      const accepts = (status: number) => NO.has(status) || (status >= 200 && status < 300);
      const policy = { ...this.#policy, accepts };
      const { status } = await this.#send({ method: 'GET', path, headers: {} }, scope, options, policy);
      return !NO.has(status);
    });
  }
}

/** Statuses that answer a question for health with no. */
const NO: ReadonlySet<number> = new Set([400, 404, 503]);

/** A refusal waits no longer than this to be explained. */
const HINT_TIMEOUT_MS = 1000;

/** Servers would repeat the prompt before a whole text, and not before a streamed one. */
const WITHOUT_PROMPT = { exclude_input_in_output: true };

const JSON_BODY = { 'content-type': 'application/json' };

function budgetOfCall(scope: CallScope, encoded: Encoded, result: CallResult, checkedMs = scope.calledMs): Budget {
  const { retriedMs, sentMs, firstByteMs, lastByteMs, headers, body } = result;
  return budgetOf(
    {
      called: scope.calledMs,
      checked: checkedMs,
      began: retriedMs ?? checkedMs,
      encoded: retriedMs ?? encoded.encodedMs,
      sent: sentMs,
      firstByte: firstByteMs,
      lastByte: lastByteMs,
      decoded: performance.now(),
    },
    parseServerTiming(headers['server-timing'] as string | undefined),
    encoded.body.length,
    body.length,
  );
}

/** Names of headers are one name in any case. */
function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
