/**
 * The part of OpenAI's API that this server has, as a table of routes: models and embeddings.
 *
 * Called by `routes.ts`. Small answers are written here; embeddings are `openai-embeddings.ts`. What its clients may ask for and this
 * server does not have answers 501 with a sentence, and tells them not to try again.
 */
import { printable, ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import type { InferOptions } from './infer-route.js';
import { createEmbeddingsHandler } from './openai-embeddings.js';
import { OpenAiError } from './openai-error.js';
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
    { method: 'POST', path: '/v1/chat/completions', handle: refuse('chat completions') },
    { method: 'POST', path: '/v1/completions', handle: refuse('completions') },
  ];
}

/** Every model that can be asked now, once. */
function modelNames(engine: Engine): string[] {
  return [...new Set(engine.repositoryIndex(true).map(({ name }) => name))];
}

function refuse(what: string): Route['handle'] {
  return () => {
    // OpenAI's clients try again after any status from 500 on, unless they are told.
    const headers = { 'x-should-retry': 'false' };
    throw new OpenAiError(501, `${what} are not supported by this server yet`, { headers });
  };
}
