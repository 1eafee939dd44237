/**
 * POST .../generate and .../generate_stream, Triton's generate extension: the straight line from first byte to last.
 *
 * Called by `routes.ts`. Body -> InferRequest -> engine -> one JSON object, or an event for each response; owns the request's reservation
 * of bytes, its timeline up to `decoded` and from `encoded`, and the cancelling when the client goes.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { JsonWriter } from '../base/json-writer.js';
import type { GenerateCall } from '../engine/generation-types.js';
import type { InferResponse, InferStreamHandler } from '../engine/types.js';
import { readBody } from './body-reader.js';
import { checkContentType } from './content-type.js';
import { EventStream, type Producer } from './event-stream.js';
import type { Exchange } from './exchange.js';
import { parseGenerateBody } from './generate-body.js';
import { printGenerated } from './generate-reply.js';
import type { InferHandler, InferOptions } from './infer-route.js';
import { Reservation } from './reservation.js';
import { HttpError } from './status.js';

/** Bytes of a body and of a response's tensors, which are parsed and printed on the main thread. */
const MAX_BYTES = 1024 * 1024;

/** A request under way; responses may come before the engine has returned its call. */
class Running implements Producer {
  ended = false;
  #call: GenerateCall | undefined;
  #early = 0;
  #cancelled = false;

  start(call: GenerateCall): void {
    this.#call = call;
    if (this.#cancelled) call.cancel();
    else if (this.#early > 0) call.taken(this.#early);
  }

  taken(responses: number): void {
    if (this.#call === undefined) this.#early += responses;
    else this.#call.taken(responses);
  }

  /** Nobody waits for responses any more. */
  cancel(): void {
    if (this.ended) return;
    this.ended = this.#cancelled = true;
    this.#call?.cancel();
  }
}

export function createGenerateHandler(options: InferOptions, streams: boolean): InferHandler {
  const { engine } = options;
  const maxInputSize = Math.min(options.maxInputSize, MAX_BYTES);
  const advice = maxInputSize < options.maxInputSize ? 'Send large tensors to infer.' : undefined;
  const writer = new JsonWriter(4096);

  return async (exchange, modelName, modelVersion) => {
    const { timeline } = exchange;
    exchange.modelName = modelName;
    const reservation = new Reservation(options.budget);
    const running = new Running();
    exchange.onClose(() => {
      reservation.free();
      running.cancel();
    });
    const timing = (): string => exchange.budget();

    try {
      checkContentType(exchange.request);
      const body = await readBody(exchange, { maxInputSize, reservation, advice });
      timeline.lastByte = nowMs();
      // What the members are, only the model says.
      exchange.waitForEngine();
      await engine.whenReady(modelName, modelVersion, Infinity, exchange.signal);
      const { inputs } = engine.modelMetadata(modelName, modelVersion);
      const generatesText = engine.modelContent(modelName, modelVersion).generation !== undefined;
      const generate = parseGenerateBody(body, { inputs, generatesText });
      timeline.decoded = nowMs();
      exchange.arm = 'rest_json';
      if (exchange.gone) return;
      const request = { ...generate, modelName, modelVersion, outputs: [], arm: 'rest_json', timeline } as const;
      const clientKey = exchange.request.socket.remoteAddress ?? '';
      const more = streams ? { streams } : { wholeText: true };
      const handler = streams ? streamed(exchange, running, timing) : single(exchange, running, timing);
      running.start(engine.inferStream({ ...request, ...more, clientKey, deadlineMs: Infinity }, handler));
    } catch (error) {
      exchange.fail(error, timing);
    }
  };

  /** An event for each response. */
  function streamed(exchange: Exchange, running: Running, timing: () => string): InferStreamHandler {
    const stream = new EventStream({ exchange, timing });
    return {
      onResponse(response, final) {
        if (running.ended) return;
        try {
          if (!isEmptyEnd(response, final)) stream.send(printGenerated(response, writer, MAX_BYTES));
          stream.deliver(running);
          if (!final) return;
          running.ended = true;
          stream.end();
        } catch (error) {
          running.cancel();
          stream.fail(ServeError.from(error));
        }
      },
      onError(error) {
        running.ended = true;
        stream.fail(error);
      },
    };
  }

  /** One reply for the one response. */
  function single(exchange: Exchange, running: Running, timing: () => string): InferStreamHandler {
    let body: string | undefined;
    const fail = (error: unknown): void => {
      running.cancel();
      exchange.fail(error, timing);
    };
    return {
      onResponse(response, final) {
        if (running.ended) return;
        running.taken(1);
        try {
          if (!isEmptyEnd(response, final)) {
            if (body !== undefined) throw notOneResponse();
            body = printGenerated(response, writer, MAX_BYTES);
          }
          if (!final) return;
          if (body === undefined) throw notOneResponse();
          running.ended = true;
          exchange.send({ status: 200, body, timing });
        } catch (error) {
          fail(error);
        }
      },
      onError(error) {
        running.ended = true;
        fail(error);
      },
    };
  }
}

/** A last response without outputs says only that it is the last. */
function isEmptyEnd({ outputs }: InferResponse, final: boolean): boolean {
  return final && outputs.length === 0;
}

function notOneResponse(): HttpError {
  return new HttpError(
    500,
    'generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses',
  );
}
