/**
 * Generated text: a request becomes a prompt, the prompt tokens, the tokens a stream.
 *
 * Called by the engine's door. Owns the streams that run: their windows, their deadlines, their ends. Must not know a protocol.
 */
import { invalid, printable } from '../base/errors.js';
import type { GenerateCall, GenerateHandler, GenerateRequest } from './generation-types.js';
import type { Registry } from './registry.js';
import type { Cancel, InferHandler, InferRequest, InferStreamHandler } from './types.js';

export interface GeneratorOptions {
  readonly registry: Registry;
  /** For models that answer once. */
  readonly infer: (request: InferRequest, handler: InferHandler) => Cancel;
}

export class Generator {
  readonly #options: GeneratorOptions;

  constructor(options: GeneratorOptions) {
    this.#options = options;
  }

  generate({ modelName }: GenerateRequest, handler: GenerateHandler): GenerateCall {
    handler.onError(invalid(`model '${printable(modelName)}' generates no text`));
    return { cancel: () => undefined, taken: () => undefined };
  }

  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
    const cancel = this.#options.infer(request, {
      onResponse: (response) => handler.onResponse(response, true),
      onError: (error) => handler.onError(error),
    });
    return { cancel, taken: () => undefined };
  }
}
