/**
 * One line of the table of routes: method, path, what is done.
 *
 * The tables are made by `routes.ts` and `openai-routes.ts` and served by `server.ts`, which knows the framework; nothing here does.
 */
import type { Exchange } from './exchange.js';

export interface RouteParams {
  readonly model: string;
  /** '' when the path names none. */
  readonly version: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  /** With `:model` and `:version` as parameters, `*` at the end for any rest. */
  readonly path: string;
  /** True: answered also while the server stops. */
  readonly always?: boolean;
  /** May throw or reject; the caller answers with the error. */
  handle(exchange: Exchange, params: RouteParams): void | Promise<void>;
}
