/**
 * Generated text as responses of the Open Inference Protocol: one for each token, or one for all of them, with the outputs asked for.
 *
 * Made by the generator for a request by tensors. What Triton's backend for vLLM gives under the same names, so that its clients read it.
 */
import { invalid, type ServeError } from '../base/errors.js';
import type { OutputName, ReadGeneration } from './generation-request.js';
import type { GenerateCall, GeneratedDelta, GenerateHandler } from './generation-types.js';
import type { Model } from './model.js';
import type { InferOutput, InferStreamHandler } from './types.js';

export interface ResponderOptions {
  /** Echoed. */
  readonly id: string;
  /** A response for each token. */
  readonly streams: boolean;
  /** Whether one response for all begins with the prompt, where the request does not say. */
  readonly prepends: boolean;
  readonly handler: InferStreamHandler;
}

export interface FollowedCall extends GenerateCall {
  /** Of the prompt; known when the first delta comes. */
  readonly promptTokens: number;
}

/** What a response tells of. */
interface Part {
  readonly text: string;
  readonly deltas: readonly GeneratedDelta[];
  readonly cumulativeLogprob: number;
}

export class GenerationResponder implements GenerateHandler {
  readonly #model: Model;
  readonly #request: ReadGeneration;
  readonly #options: ResponderOptions;
  readonly #prefix: string;
  #call: FollowedCall | undefined;
  /** Those that the one response will have. */
  readonly #texts: string[] = [];
  readonly #deltas: GeneratedDelta[] = [];
  #cumulativeLogprob = 0;

  /** Throws INVALID_ARGUMENT where what was asked for does not go together. */
  constructor(model: Model, request: ReadGeneration, options: ResponderOptions) {
    this.#model = model;
    this.#request = request;
    this.#options = options;
    const excludes = request.excludeInput ?? (options.streams || !options.prepends);
    if (options.streams && !excludes) {
      throw invalid('When streaming, `exclude_input_in_output` = False is not allowed.');
    }
    this.#prefix = !excludes && request.prompt.kind === 'text' ? request.prompt.text : '';
  }

  /** The call whose deltas come here: what is kept for one response is taken at once. */
  follow(call: FollowedCall): void {
    this.#call = call;
  }

  onDelta(delta: GeneratedDelta): void {
    if (delta.logprob) this.#cumulativeLogprob += delta.logprob.logprob;
    const final = delta.end !== undefined;
    const { streams, handler } = this.#options;
    if (streams) {
      this.#respond({ text: delta.text, deltas: [delta], cumulativeLogprob: this.#cumulativeLogprob }, delta, handler);
      return;
    }
    this.#texts.push(delta.text);
    this.#deltas.push(delta);
    if (!final) {
      this.#call?.taken(1);
      return;
    }
    const text = this.#prefix + this.#texts.join('');
    this.#respond({ text, deltas: this.#deltas, cumulativeLogprob: this.#cumulativeLogprob }, delta, handler);
  }

  onError(error: ServeError): void {
    this.#options.handler.onError(error);
  }

  #respond(part: Part, last: GeneratedDelta, handler: InferStreamHandler): void {
    const { outputs } = this.#request;
    const response = {
      modelName: this.#model.name,
      modelVersion: this.#model.version,
      id: this.#options.id,
      outputs: outputs.map((name) => this.#output(name, part, last)),
    };
    handler.onResponse(response, last.end !== undefined);
  }

  #output(name: OutputName, { text, deltas, cumulativeLogprob }: Part, { end }: GeneratedDelta): InferOutput {
    // One that chose no token only ends the text.
    const tokens =
      deltas.length === 1 && deltas[0]!.tokenId >= 0 ? deltas : deltas.filter(({ tokenId }) => tokenId >= 0);
    switch (name) {
      case 'text_output':
        return textOutput(name, text);
      case 'finish_reason':
        // As Python prints what is not known yet.
        return textOutput(name, end?.finishReason ?? 'None');
      case 'logprobs':
        return textOutput(name, JSON.stringify(tokens.map(logprobsOf)));
      case 'cumulative_logprob':
        return floats(name, [cumulativeLogprob]);
      case 'num_input_tokens':
        return integers(name, 'UINT32', [this.#call?.promptTokens ?? end?.promptTokens ?? 0]);
      case 'num_output_tokens':
        return integers(name, 'UINT32', [tokens.length]);
      case 'token_id':
        return integers(
          name,
          'INT32',
          tokens.map(({ tokenId }) => tokenId),
        );
      case 'token_logit':
        return floats(
          name,
          tokens.map(({ logit }) => logit),
        );
      default:
        return name satisfies never;
    }
  }
}

function textOutput(name: string, text: string): InferOutput {
  const byteLength = Buffer.byteLength(text);
  const data = Buffer.allocUnsafe(4 + byteLength);
  data.writeUInt32LE(byteLength);
  data.write(text, 4);
  return { name, datatype: 'BYTES', shape: ONE, data };
}

// Most have one element, once for each token: a part of Node's pool is made in a tenth of the time of a typed array.
function floats(name: string, values: readonly number[]): InferOutput {
  const data = Buffer.allocUnsafe(4 * values.length);
  for (let i = 0; i < values.length; i++) data.writeFloatLE(values[i]!, 4 * i);
  return { name, datatype: 'FP32', shape: [values.length], data };
}

function integers(name: string, datatype: 'INT32' | 'UINT32', values: readonly number[]): InferOutput {
  const data = Buffer.allocUnsafe(4 * values.length);
  for (let i = 0; i < values.length; i++) data.writeUInt32LE(values[i]! >>> 0, 4 * i);
  return { name, datatype, shape: [values.length], data };
}

const ONE: readonly number[] = [1];

/** Of one token, by id; rank 1 is the likeliest, null where it was not among those looked at. */
function logprobsOf({ logprob }: GeneratedDelta): object {
  if (!logprob) return {};
  const { top } = logprob;
  const chosen = top.findIndex(({ id }) => id === logprob.id);
  const entries = top.map(({ id, logprob: value, token }, index) => [
    String(id),
    { logprob: value, rank: index + 1, decoded_token: token },
  ]);
  if (chosen < 0) {
    entries.unshift([
      String(logprob.id),
      { logprob: logprob.logprob, rank: null, decoded_token: logprob.token },
    ] as never);
  }
  return Object.fromEntries(entries);
}
