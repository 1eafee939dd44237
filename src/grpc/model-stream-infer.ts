/**
 * ModelStreamInfer of the Open Inference Protocol: registers it, and knows its open calls, so that a server that stops can end them.
 *
 * Called by `server.ts` once. Each call is an `InferStream`.
 */
import { InferStream, type InferStreamOptions } from './infer-stream.js';
import { addBidi } from './streaming.js';
import type { Registry } from './unary.js';

export interface ModelStreamInfer {
  /** Open streams take no more requests; each ends when what it has accepted is answered. */
  drain(): void;
}

/** Adds the RPC under `path`. */
export function addModelStreamInfer(registry: Registry, path: string, options: InferStreamOptions): ModelStreamInfer {
  const open = new Set<InferStream>();
  const { maxMessageBytes } = options;
  addBidi(registry, path, { maxMessageBytes }, (reply) => {
    const stream = new InferStream(reply, options, (over) => open.delete(over));
    open.add(stream);
    return stream;
  });
  return {
    drain() {
      for (const stream of open) stream.drain();
    },
  };
}
