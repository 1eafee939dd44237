/**
 * POST .../infer: the straight line from a request's first byte to the reply's last.
 *
 * Called by `routes.ts`. Body -> InferRequest -> engine -> reply; owns the request's reservation of bytes, its timeline up to
 * `decoded` and from `encoded`, and the cancelling when the client goes.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { FREE_MESSAGE_BYTES, MessagePool, SMALLEST_KEPT_BYTES } from '../base/message-pool.js';
import type { JsonInferRequest } from '../base/tensor-json.js';
import { parseInferRequest } from '../base/tensor-json-parse.js';
import type { Arm, ByteBudget, Cancel, Engine, InferResponse } from '../engine/types.js';
import type { JsonPool } from '../runtime/json-pool.js';
import { readBody } from './body-reader.js';
import { checkContentType, isPictureType } from './content-type.js';
import type { Exchange } from './exchange.js';
import { composeInfer, composePicture, composeRawInfer, type InferBody, jsonLength } from './infer-body.js';
import { createReplyEncoder, type EncodedReply } from './infer-reply.js';
import { Reservation } from './reservation.js';
import { tensorsTooLarge } from './status.js';

export interface InferOptions {
  readonly engine: Engine;
  readonly jsonPool: JsonPool;
  readonly budget: ByteBudget;
  /** Bytes of a body, after inflating. */
  readonly maxInputSize: number;
}

export type InferHandler = (exchange: Exchange, modelName: string, modelVersion: string) => Promise<void>;

/** JSON beyond this many bytes is parsed off the main thread. */
const INLINE_JSON_BYTES = 10_240;

export function createInferHandler(options: InferOptions): InferHandler {
  const { engine, jsonPool } = options;
  const memory = new MessagePool(FREE_MESSAGE_BYTES);
  const encodeReply = createReplyEncoder(jsonPool, memory);

  return async (exchange, modelName, modelVersion) => {
    const { request, timeline } = exchange;
    exchange.modelName = modelName;
    const reservation = new Reservation(options.budget);
    const headerLength = request.headers['inference-header-content-length'] as string | undefined;
    const binary = headerLength !== undefined;
    const arm: Arm = binary ? 'rest_binary' : 'rest_json';
    /** The request's memory, while the engine may read it. Given back after an answer, never after a cancel. */
    let body: Buffer<ArrayBuffer> | undefined;
    let cancel: Cancel | undefined;
    let answered = false;
    exchange.onClose(() => {
      reservation.free();
      if (!answered) cancel?.();
    });
    const timing = (): string => exchange.budget();
    const fail = (error: unknown): void => {
      answered = true;
      exchange.fail(error, timing);
    };

    try {
      checkContentType(request);
      const { maxInputSize } = options;
      body = await readBody(exchange, { maxInputSize, reservation, memory: binary ? memory : undefined });
      timeline.lastByte = nowMs();
      const infer = await decode(body, headerLength, modelName, modelVersion, reservation, exchange);
      timeline.decoded = nowMs();
      exchange.arm = arm;
      if (exchange.gone) return;
      exchange.waitForEngine();
      const { id, inputs, outputs, parameters } = infer;
      cancel = engine.infer(
        { modelName, modelVersion, id, inputs, outputs, parameters, arm, deadlineMs: Infinity, timeline },
        { onResponse: (response) => answer(response, infer.isBinaryOutput), onError: fail },
      );
    } catch (error) {
      fail(error);
    }

    function answer(response: InferResponse, isBinaryOutput: (name: string) => boolean): void {
      answered = true;
      try {
        refuseLargeReply(response);
        const encoded = encodeReply(response, isBinaryOutput);
        if (binary && body) memory.give(body);
        if (encoded instanceof Promise) encoded.then(reply, fail);
        else reply(encoded);
      } catch (error) {
        fail(error);
      }
    }

    function reply({ body, jsonLength }: EncodedReply): void {
      // The request's bytes are done with; what is held now is the reply, as long as the client takes to read it.
      if (!reservation.tryResize(body.length)) reservation.tryResize(0);
      // Told when the socket has taken all of it; of a connection that breaks before, the memory is the collector's.
      if (body.length >= SMALLEST_KEPT_BYTES) exchange.response.once('finish', () => memory.give(body));
      if (jsonLength === undefined) exchange.send({ status: 200, body, timing });
      else {
        const headers = { 'content-type': 'application/octet-stream', 'inference-header-content-length': jsonLength };
        exchange.send({ status: 200, body, headers, text: false, timing });
      }
    }
  };

  /** What a few bytes of request can ask a model for has no bound, and it is copied in one go. */
  function refuseLargeReply({ modelName, outputs }: InferResponse): void {
    let bytes = 0;
    for (const { data } of outputs) bytes += data.length;
    if (bytes <= options.maxInputSize) return;
    throw new ServeError(
      'RESOURCE_EXHAUSTED',
      `outputs of model '${modelName}' take ${bytes} bytes, at most ${options.maxInputSize} are sent. Use --http-max-input-size to increase the limit.`,
    );
  }

  /** Small JSON without leaving this tick, large JSON in the pool. */
  function decode(
    body: Buffer<ArrayBuffer>,
    headerLength: string | undefined,
    modelName: string,
    modelVersion: string,
    reservation: Reservation,
    exchange: Exchange,
  ): InferBody | Promise<InferBody> {
    const length = jsonLength(headerLength, body.length);
    if ((headerLength === undefined || length === 0) && isPictureType(exchange.request)) {
      return composePicture(body, headerLength !== undefined);
    }
    if (headerLength !== undefined && length === 0) {
      // What the bytes are, only the model says.
      exchange.waitForEngine();
      const known = engine.whenReady(modelName, modelVersion, Infinity, exchange.signal);
      return known.then(() => composeRawInfer(body, engine, modelName, modelVersion));
    }
    const binary = headerLength !== undefined;
    const tail = body.subarray(length);
    const compose = (json: JsonInferRequest): InferBody => composeInfer(json, tail, modelName, binary);
    if (length <= INLINE_JSON_BYTES) return compose(parseInferRequest(body.subarray(0, length)));
    // The pool takes the memory it is given, so a head with tensors behind it is copied out.
    const json = tail.length > 0 ? Uint8Array.from(body.subarray(0, length)) : body;
    return jsonPool.parse(json).then((parsed) => {
      let dataBytes = tail.length;
      for (const input of parsed.inputs) dataBytes += input.data?.length ?? 0;
      // Two characters of text can be eight bytes of a tensor.
      if (dataBytes > options.maxInputSize) throw tensorsTooLarge(dataBytes, options.maxInputSize);
      reservation.resize(dataBytes);
      return compose(parsed);
    });
  }
}
