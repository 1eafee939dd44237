/**
 * POST /v1/completions and /v1/chat/completions: the straight line from a request's first byte to the reply's last.
 *
 * Called by `openai-routes.ts`. Body -> OpenAiGeneration -> a run of its answers through the engine -> events or one reply; owns the
 * request's reservation of bytes, its timeline up to `decoded` and from `encoded`, and the cancelling when the client goes.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { parseJsonObject } from '../base/json-document.js';
import type { GeneratedDelta } from '../engine/generation-types.js';
import { readBody } from './body-reader.js';
import { checkContentType } from './content-type.js';
import { EventStream } from './event-stream.js';
import type { Exchange } from './exchange.js';
import type { InferOptions } from './infer-route.js';
import { parseChat } from './openai-chat.js';
import { createPrinter, type OpenAiKind, type Usage } from './openai-chunks.js';
import { parseCompletion } from './openai-completions.js';
import { blameMember } from './openai-error.js';
import { GenerationRun, type GenerationRunHandler } from './openai-generation-run.js';
import type { OpenAiGeneration } from './openai-sampling.js';
import { Reservation } from './reservation.js';

/** Bytes of a body. Whatever is in one comes back to the main thread, and prompts have a bound of their own. */
const MAX_BYTES = 8 * 1024 * 1024;
/** JSON beyond this many bytes is parsed off the main thread. */
const INLINE_JSON_BYTES = 65_536;
/** What a token costs that is kept for a reply in one piece: its delta, and each probability that it has. */
const DELTA_BYTES = 128;
const LOGPROB_BYTES = 160;
/** Step in which what is kept reserves. */
const GROWTH_BYTES = 65_536;

export function createGenerationHandler(options: InferOptions, kind: OpenAiKind): (ex: Exchange) => Promise<void> {
  const { engine, jsonPool } = options;
  const maxInputSize = Math.min(options.maxInputSize, MAX_BYTES);
  const advice = maxInputSize < options.maxInputSize ? 'No model reads as much text.' : undefined;
  const promptMember = kind === 'chat' ? 'messages' : 'prompt';

  return async (exchange) => {
    const reservation = new Reservation(options.budget);
    const { timeline } = exchange;
    let run: GenerationRun | undefined;
    exchange.onClose(() => {
      reservation.free();
      run?.cancel();
      run?.mergeTimelines();
    });
    const timing = (): string => {
      run?.mergeTimelines();
      return exchange.budget();
    };

    try {
      checkContentType(exchange.request);
      const body = await readBody(exchange, { maxInputSize, reservation, advice });
      timeline.lastByte = nowMs();
      const object = body.length > INLINE_JSON_BYTES ? await jsonPool.parseObject(body) : parseJsonObject(body);
      const request = kind === 'chat' ? parseChat(object) : parseCompletion(object);
      exchange.modelName = request.model;
      timeline.decoded = nowMs();
      exchange.arm = 'rest_json';
      if (exchange.gone) return;
      exchange.waitForEngine();
      // Whom it says it asks for counts among those of its address: nobody gets into another's line by saying so.
      const address = exchange.request.socket.remoteAddress ?? '';
      const clientKey = request.user === '' ? address : `${address} ${request.user}`;
      const answer = request.stream ? streamed : collected;
      run = new GenerationRun({ engine, request, clientKey, timeline }, answer(request));
      run.start();
    } catch (error) {
      exchange.fail(error, timing);
    }

    /** An event for each delta. */
    function streamed(request: OpenAiGeneration): GenerationRunHandler {
      const printer = createPrinter(kind, request);
      const stream = new EventStream({ exchange, timing });
      const running = (): Usage | null | undefined => {
        if (request.usage === 'no') return undefined;
        return request.usage === 'running' ? run!.usage() : null;
      };
      return {
        onDelta(answer, delta, producer) {
          for (const event of printer.chunks(answer, delta, running())) stream.send(event);
          stream.deliver(producer);
        },
        onEnd() {
          if (request.usage !== 'no') stream.send(printer.usageChunk(run!.usage()));
          stream.send('[DONE]');
          stream.end();
        },
        onError: (error) => stream.fail(blameMember(error, promptMember)),
      };
    }

    /** One reply when all have ended. */
    function collected(request: OpenAiGeneration): GenerationRunHandler {
      const printer = createPrinter(kind, request);
      const deltas: GeneratedDelta[][] = [];
      let kept = reservation.held;
      return {
        onDelta({ index }, delta, producer) {
          (deltas[index] ??= []).push(delta);
          kept += bytesOf(delta);
          // Many answers with all their probabilities are a hundred thousand times as long as the request for them.
          if (kept > reservation.held && !reservation.tryResize(kept + GROWTH_BYTES)) {
            run!.cancel();
            exchange.fail(new ServeError('RESOURCE_EXHAUSTED', TOO_MUCH), timing);
            return;
          }
          producer.taken(1);
        },
        onEnd() {
          try {
            const body = printer.reply(run!.answers, deltas, run!.usage());
            exchange.send({ status: 200, body, timing });
          } catch (error) {
            exchange.fail(ServeError.from(error), timing);
          }
        },
        onError: (error) => exchange.fail(blameMember(error, promptMember), timing),
      };
    }
  };
}

const TOO_MUCH = 'too many bytes in flight to keep the answers until all are complete; ask for a stream';

function bytesOf({ text, logprob }: GeneratedDelta): number {
  return DELTA_BYTES + text.length + (logprob ? (1 + logprob.top.length) * LOGPROB_BYTES : 0);
}
