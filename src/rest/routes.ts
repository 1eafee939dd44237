/**
 * The REST surface as one table: method, path, what is done. Paths are the protocol's and Triton's, and OpenAI's.
 *
 * Called by `server.ts`, which knows the framework; nothing here does. Small answers are written here, inference is
 * `infer-route.ts` and `generate-route.ts`, all below /v1 is `openai-routes.ts`. What Triton has and this server has not answers 501 with a sentence.
 */
import { ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import { type AdviceSource, adviceReply } from './advice-reply.js';
import { readBody } from './body-reader.js';
import type { Exchange } from './exchange.js';
import { createGenerateHandler } from './generate-route.js';
import { createInferHandler, type InferOptions } from './infer-route.js';
import { openAiRoutes } from './openai-routes.js';
import { Reservation } from './reservation.js';
import type { Route, RouteParams } from './route.js';
import { HttpError } from './status.js';

export interface RouteOptions extends InferOptions {
  /** True while the server stops: not ready any more. */
  draining(): boolean;
  /** Undefined where the server keeps no budget. */
  readonly advice?: AdviceSource | undefined;
}

/** Bytes of a control request's body. */
const CONTROL_BYTES = 1024 * 1024;

export function createRoutes(options: RouteOptions): Route[] {
  const { engine, draining } = options;
  const infer = createInferHandler(options);
  const generate = createGenerateHandler(options, false);
  const generateStream = createGenerateHandler(options, true);
  return [
    ...perModel('POST', '/infer', (exchange, { model, version }) => infer(exchange, model, version)),
    ...perModel('POST', '/generate', (exchange, { model, version }) => generate(exchange, model, version)),
    ...perModel('POST', '/generate_stream', (exchange, { model, version }) => generateStream(exchange, model, version)),
    {
      method: 'GET',
      path: '/v2/health/live',
      always: true,
      handle: (exchange) => exchange.sendJson(200, { live: true }),
    },
    {
      method: 'GET',
      path: '/v2/health/ready',
      always: true,
      handle(exchange) {
        const ready = engine.isReady() && !draining();
        // KServe's client reads `ready`, the protocol's text says `live`.
        exchange.sendJson(ready ? 200 : 400, { ready, live: true });
      },
    },
    { method: 'GET', path: '/v2', handle: (exchange) => serverMetadata(exchange, engine) },
    { method: 'GET', path: '/v2/models', handle: (exchange) => modelList(exchange, engine) },
    {
      method: 'GET',
      path: '/v2/models/stats',
      handle: (exchange) => exchange.sendJson(200, { model_stats: engine.modelStatistics('', '') }),
    },
    ...perModel('GET', '', async (exchange, { model, version }) => {
      exchange.waitForEngine();
      await engine.whenReady(model, version, Infinity, exchange.signal);
      exchange.sendJson(200, engine.modelMetadata(model, version));
    }),
    ...perModel('GET', '/ready', (exchange, params) => modelReady(exchange, engine, params)),
    ...perModel('GET', '/config', async (exchange, { model, version }) => {
      exchange.waitForEngine();
      await engine.whenReady(model, version, Infinity, exchange.signal);
      exchange.sendJson(200, engine.modelConfig(model, version));
    }),
    ...perModel('GET', '/stats', (exchange, { model, version }) => {
      exchange.sendJson(200, { model_stats: engine.modelStatistics(model, version) });
    }),
    {
      method: 'GET',
      path: '/v2/models/:model/advice',
      handle: (exchange, { model }) => advise(exchange, options, model),
    },
    { method: 'POST', path: '/v2/repository/index', handle: (exchange) => repositoryIndex(exchange, options) },
    ...openAiRoutes(options),
    ...refusedRoutes(),
  ];
}

function perModel(method: 'GET' | 'POST', rest: string, handle: Route['handle']): Route[] {
  return [
    { method, path: `/v2/models/:model${rest}`, handle },
    { method, path: `/v2/models/:model/versions/:version${rest}`, handle },
  ];
}

function serverMetadata(exchange: Exchange, engine: Engine): void {
  exchange.sendJson(200, { name: engine.serverName, version: engine.serverVersion, extensions: engine.extensions });
}

/** KServe's list: every model that can be asked now, once. */
function modelList(exchange: Exchange, engine: Engine): void {
  const names = new Set(engine.repositoryIndex(true).map((entry) => entry.name));
  exchange.sendJson(200, { models: [...names] });
}

function advise(exchange: Exchange, { engine, advice }: RouteOptions, model: string): void {
  if (advice === undefined) {
    throw new ServeError(
      'FAILED_PRECONDITION',
      'this server keeps no latency budget: it runs with --latency-budget false',
    );
  }
  // Throws for a model that is not known; one that is not loaded now may have been.
  if (!engine.repositoryIndex(false).some(({ name }) => name === model)) engine.modelMetadata(model, '');
  exchange.sendJson(200, adviceReply(advice, model));
}

/** Clients look at the status only: 200, 400 for a model that is not ready, 404 for one that is not known. */
function modelReady(exchange: Exchange, engine: Engine, { model, version }: RouteParams): void {
  if (engine.isModelReady(model, version)) {
    exchange.sendJson(200, { name: model, ready: true });
    return;
  }
  try {
    engine.modelMetadata(model, version);
  } catch (error) {
    if (error instanceof ServeError && error.code === 'NOT_FOUND') throw error;
  }
  throw new HttpError(400, 'Model version not ready');
}

async function repositoryIndex(exchange: Exchange, options: RouteOptions): Promise<void> {
  const reservation = new Reservation(options.budget);
  exchange.onClose(() => reservation.free());
  const body = await readBody(exchange, { maxInputSize: CONTROL_BYTES, reservation });
  const index = options.engine.repositoryIndex(readyOnly(body.toString()));
  // A model of which nothing was ever loaded has only a name.
  const lines = index.map(({ name, version, state, reason }) => ({
    name,
    ...(version !== '' && { version }),
    ...(state !== '' && { state }),
    ...(reason !== '' && { reason }),
  }));
  exchange.sendJson(200, lines);
}

function readyOnly(body: string): boolean {
  if (body.trim() === '') return false;
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new ServeError('INVALID_ARGUMENT', 'failed to parse the request JSON buffer');
  }
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const ready = isObject && 'ready' in (value as object) ? (value as { ready: unknown }).ready : false;
  if (!isObject || typeof ready !== 'boolean') {
    throw new ServeError('INVALID_ARGUMENT', "expected an object with 'ready' true or false");
  }
  return ready;
}

/** What clients of Triton may ask for and this server does not have. */
function refusedRoutes(): Route[] {
  const refuse = (code: 'UNIMPLEMENTED' | 'UNAVAILABLE', message: string): Route['handle'] => {
    return () => {
      throw new ServeError(code, message);
    };
  };
  const control = refuse('UNAVAILABLE', 'explicit model load / unload is not allowed if polling is enabled');
  const repository = refuse('UNIMPLEMENTED', "'repository_name' specification is not supported");
  const shared = refuse(
    'UNIMPLEMENTED',
    'Client shared memory is disabled: this server has no shared memory extension',
  );
  const trace = refuse('UNIMPLEMENTED', 'trace settings are not supported by this server');
  const logging = refuse('UNIMPLEMENTED', 'log settings can not be changed while this server runs');
  return [
    { method: 'POST', path: '/v2/repository/models/:model/load', handle: control },
    { method: 'POST', path: '/v2/repository/models/:model/unload', handle: control },
    { method: 'POST', path: '/v2/repository/:repository/index', handle: repository },
    { method: 'POST', path: '/v2/repository/:repository/models/:model/load', handle: repository },
    { method: 'POST', path: '/v2/repository/:repository/models/:model/unload', handle: repository },
    ...(['systemsharedmemory', 'cudasharedmemory'] as const).flatMap((kind): Route[] => [
      { method: 'GET', path: `/v2/${kind}/*`, handle: shared },
      { method: 'POST', path: `/v2/${kind}/*`, handle: shared },
    ]),
    ...(['GET', 'POST'] as const).flatMap((method): Route[] => [
      { method, path: '/v2/trace/setting', handle: trace },
      { method, path: '/v2/models/:model/trace/setting', handle: trace },
      { method, path: '/v2/logging', handle: logging },
    ]),
  ];
}

/** The methods that some route takes for `path` (no query string), for the 405 that a wrong one deserves. */
export function allowedMethods(routes: readonly Route[], path: string): string[] {
  const parts = segments(path);
  const methods = new Set<string>();
  for (const route of routes) if (matches(segments(route.path), parts)) methods.add(route.method);
  return [...methods];
}

function segments(path: string): string[] {
  return path.replace(/\/$/, '').split('/');
}

function matches(pattern: readonly string[], parts: readonly string[]): boolean {
  if (pattern.at(-1) === '*' ? parts.length < pattern.length : parts.length !== pattern.length) return false;
  return pattern.every((part, index) => {
    const given = parts[index]!;
    return part === '*' || part === given || (part.startsWith(':') && given !== '');
  });
}
