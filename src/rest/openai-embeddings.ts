/**
 * POST /v1/embeddings: the straight line from a request's first byte to the reply's last.
 *
 * Called by `openai-routes.ts`. Body -> EmbeddingsRequest -> a run of its inputs through the engine -> reply; owns the request's
 * reservation of bytes, its timeline up to `decoded` and from `encoded`, and the cancelling when the client goes.
 */
import { nowMs } from '../base/clock.js';
import type { EmbeddingEncoding, EmbeddingsRequest, ParsedEmbeddings } from '../base/embeddings-json.js';
import { parseEmbeddingsRequest } from '../base/embeddings-json-parse.js';
import { printEmbeddings } from '../base/embeddings-json-print.js';
import { ServeError } from '../base/errors.js';
import { JsonWriter } from '../base/json-writer.js';
import type { Cancel, Engine } from '../engine/types.js';
import { readBody } from './body-reader.js';
import { checkContentType } from './content-type.js';
import type { Exchange } from './exchange.js';
import type { InferOptions } from './infer-route.js';
import { checkDimensions, type Embeddings, runEmbeddings } from './openai-embeddings-run.js';
import { invalidMember } from './openai-error.js';
import { Reservation } from './reservation.js';
import { tensorsTooLarge } from './status.js';

/** JSON beyond this many bytes is parsed off the main thread. */
const INLINE_JSON_BYTES = 10_240;
/** Vectors beyond these, in bytes, are printed off the main thread: about a fifth of a millisecond's work. */
const INLINE_BYTES = { float: 8_192, base64: 262_144 } as const;

export function createEmbeddingsHandler(options: InferOptions): (exchange: Exchange) => Promise<void> {
  const { engine, jsonPool, maxInputSize } = options;
  const writer = new JsonWriter(16_384);

  return async (exchange) => {
    const reservation = new Reservation(options.budget);
    const { timeline } = exchange;
    let cancel: Cancel | undefined;
    exchange.onClose(() => {
      reservation.free();
      cancel?.();
    });
    const timing = (): string => exchange.budget();
    const fail = (error: unknown): void => exchange.fail(error, timing);

    try {
      checkContentType(exchange.request);
      const body = await readBody(exchange, { maxInputSize, reservation });
      timeline.lastByte = nowMs();
      const request = accepted(
        body.length > INLINE_JSON_BYTES ? await jsonPool.parseEmbeddings(body) : parseEmbeddingsRequest(body),
      );
      const inputBytes = request.data.length;
      // Two characters of text can be the eight bytes of a token.
      if (inputBytes > maxInputSize) throw tensorsTooLarge(inputBytes, maxInputSize);
      reservation.resize(inputBytes);
      const modelName = request.model;
      exchange.modelName = modelName;
      timeline.decoded = nowMs();
      exchange.arm = 'rest_json';
      if (exchange.gone) return;
      exchange.waitForEngine();
      await engine.whenReady(modelName, '', Infinity, exchange.signal);
      if (exchange.gone) return;
      const { output, isMatryoshka } = embeddingOutput(engine, request);
      const reserve = (bytes: number): void => {
        if (bytes > maxInputSize) throw embeddingsTooLarge(modelName, bytes, maxInputSize);
        reservation.resize(inputBytes + bytes);
      };
      cancel = runEmbeddings(
        { engine, request, output, isMatryoshka, timeline, reserve },
        {
          onEmbeddings(embeddings, merged) {
            exchange.timeline = merged;
            answer(request, embeddings);
          },
          onError(error, merged) {
            exchange.timeline = merged;
            fail(error);
          },
        },
      );
    } catch (error) {
      fail(error);
    }

    function answer({ model, encodingFormat, ends }: EmbeddingsRequest, { vectors, promptTokens }: Embeddings): void {
      const reply = { model, vectors, count: ends.length, encodingFormat, promptTokens };
      const small = vectors.byteLength <= INLINE_BYTES[encodingFormat];
      try {
        if (small) send(printEmbeddings(reply, writer), encodingFormat);
        else
          jsonPool
            .printEmbeddings(reply)
            .then((body) => send(body, encodingFormat))
            .catch(fail);
      } catch (error) {
        fail(error);
      }
    }

    function send(body: Uint8Array, encodingFormat: EmbeddingEncoding): void {
      // The inputs are done with; what is held now is the reply, as long as the client takes to read it.
      if (!reservation.tryResize(body.length)) reservation.tryResize(0);
      // Vectors in base64 compress no better than tensors do, which only a client that insists gets compressed.
      exchange.send({ status: 200, body, text: encodingFormat === 'float', timing });
    }
  };
}

function accepted(parsed: ParsedEmbeddings): EmbeddingsRequest {
  if (parsed.ok) return parsed.request;
  throw invalidMember(parsed.refusal.param, parsed.refusal.message);
}

/** The output to ask for. Throws 400 for a model that gives no embeddings, or not with as many dimensions as asked for. */
function embeddingOutput(engine: Engine, request: EmbeddingsRequest): { output: string; isMatryoshka: boolean } {
  const { model } = request;
  const { inputs, embeddingOutput: output, embeddingProblem, isMatryoshka } = engine.modelContent(model, '');
  if (output === undefined) {
    const takesText = inputs.some(({ kind }) => kind === 'text');
    const why = embeddingProblem || (takesText ? 'it has no output with one vector per text' : 'it takes no text');
    throw invalidMember('model', `model '${model}' is no text-embedding model: ${why}`);
  }
  const { outputs } = engine.modelMetadata(model, '');
  const width = outputs.find(({ name }) => name === output)?.shape.at(-1) ?? -1;
  // One that is not known before is checked with the first vector.
  if (width > 0) checkDimensions(request, width, isMatryoshka);
  return { output, isMatryoshka };
}

function embeddingsTooLarge(model: string, bytes: number, maxInputSize: number): ServeError {
  return new ServeError(
    'RESOURCE_EXHAUSTED',
    `embeddings of model '${model}' take ${bytes} bytes, at most ${maxInputSize} are sent. Use --http-max-input-size to increase the limit.`,
  );
}
