/**
 * What is known of each model and version, asked for once, and requests checked by it.
 *
 * One per client, of either transport. What can't be found out is not checked. A model may be loaded anew with other tensors: what a
 * request fails by is asked for again before it is refused, and forgotten where the server refuses.
 */
import { ClientError, type ClientErrorCode } from './client-error.js';
import { checkRequest, type ModelFacts } from './request-check.js';
import type { InferRequest } from './types.js';

export type ModelRef = Pick<InferRequest, 'model' | 'version'>;

/** Asks the server. Rejects with ClientError. */
export type FetchFacts = (model: string, version: string) => Promise<ModelFacts>;

/** Models and versions remembered; beyond, all are asked for again. */
const MAX_MODELS = 1024;

/** A server that says no to these says so of all models and always. */
const FOR_GOOD: ReadonlySet<ClientErrorCode> = new Set(['UNIMPLEMENTED', 'PERMISSION_DENIED', 'UNAUTHENTICATED']);
/** Refusals that what is known here may have failed to foresee. */
const STALE: ReadonlySet<ClientErrorCode> = new Set(['INVALID_ARGUMENT', 'NOT_FOUND']);

export class MetadataCache {
  readonly #fetch: FetchFacts;
  /** undefined = nothing can be found out. */
  readonly #known = new Map<string, ModelFacts | undefined>();
  readonly #asking = new Map<string, Promise<ModelFacts | undefined>>();

  constructor(fetch: FetchFacts) {
    this.#fetch = fetch;
  }

  /**
   * Undefined when the request is right by what is known; otherwise a promise that waits for the server's word. Either throws or
   * rejects with a local INVALID_ARGUMENT for what is wrong.
   */
  check(request: InferRequest): Promise<void> | undefined {
    const key = keyOf(request);
    if (!this.#known.has(key)) return this.#askAndCheck(request, key);
    const facts = this.#known.get(key);
    if (facts === undefined) return undefined;
    try {
      checkRequest(request, facts);
      return undefined;
    } catch {
      this.#known.delete(key);
      return this.#askAndCheck(request, key);
    }
  }

  /** What can be found out of the model, a promise where it has to be asked for; undefined = nothing. */
  facts(model: ModelRef): Promise<ModelFacts | undefined> | ModelFacts | undefined {
    const key = keyOf(model);
    return this.#known.has(key) ? this.#known.get(key) : this.#askOnce(model, key);
  }

  /** The server refused `request` with `code`. */
  refused(request: InferRequest, code: ClientErrorCode): void {
    if (STALE.has(code)) this.#known.delete(keyOf(request));
  }

  async #askAndCheck(request: InferRequest, key: string): Promise<void> {
    const facts = await this.#askOnce(request, key);
    if (facts !== undefined) checkRequest(request, facts);
  }

  #askOnce(model: ModelRef, key: string): Promise<ModelFacts | undefined> {
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = this.#ask(model, key).finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    return asking;
  }

  async #ask({ model, version = '' }: ModelRef, key: string): Promise<ModelFacts | undefined> {
    try {
      const facts = await this.#fetch(model, version);
      this.#remember(key, facts);
      return facts;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      // The request itself will meet what failed here, and say it better.
      if (FOR_GOOD.has(error.code)) this.#remember(key, undefined);
      return undefined;
    }
  }

  #remember(key: string, facts: ModelFacts | undefined): void {
    if (this.#known.size >= MAX_MODELS) this.#known.clear();
    this.#known.set(key, facts);
  }
}

function keyOf({ model, version = '' }: ModelRef): string {
  return `${version}/${model}`;
}
