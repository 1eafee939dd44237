/**
 * The part of OpenAI's API that this server has, as a table of routes: models, embeddings, completions and
 * chat completions.
 *
 * Called by `routes.ts`. Small answers are written here; embeddings are `openai-embeddings.ts`, text is `openai-generation.ts`.
 */
import { printable, ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import type { InferOptions } from './infer-route.js';
import { createEmbeddingsHandler } from './openai-embeddings.js';
import { createGenerationHandler } from './openai-generation.js';
import type { Route } from './route.js';

export function openAiRoutes(options: InferOptions): Route[] {
  const { engine } = options;
  const created = Math.floor(Date.now() / 1000);
  const model = (id: string) => ({ id, object: 'model', created, owned_by: 'tensorwire' });
  return [
    { method: 'POST', path: '/v1/embeddings', handle: createEmbeddingsHandler(options) },
    {
      method: 'GET',
      path: '/v1/models',
      handle: (exchange) => exchange.sendJson(200, { object: 'list', data: modelNames(engine).map(model) }),
    },
    {
      method: 'GET',
      path: '/v1/models/:model',
      handle(exchange, { model: name }) {
        if (!modelNames(engine).includes(name)) {
          throw new ServeError('NOT_FOUND', `model '${printable(name)}' is not found`);
        }
        exchange.sendJson(200, model(name));
      },
    },
    { method: 'POST', path: '/v1/chat/completions', handle: createGenerationHandler(options, 'chat') },
    { method: 'POST', path: '/v1/completions', handle: createGenerationHandler(options, 'text') },
  ];
}

/** Every model that can be asked now, once. */
function modelNames(engine: Engine): string[] {
  return [...new Set(engine.repositoryIndex(true).map(({ name }) => name))];
}
