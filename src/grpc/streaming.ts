/**
 * Adds streaming RPCs: many replies to one message, or messages both ways, on the bare HTTP/2 stream as `unary.ts` does it.
 *
 * Called by the services. What is received is read by `body-guard.ts` (one message) or `message-reader.ts` (many), what is sent goes
 * through `stream-reply.ts`. Must not know what an RPC means.
 */
import { receiveOne } from './body-guard.js';
import type { GatedCall } from './gated-call.js';
import { type MessageHandler, MessageReader } from './message-reader.js';
import { StreamReply } from './stream-reply.js';
import { addMethod, type Registry, serveOne } from './unary.js';

export interface StreamingOptions {
  readonly maxMessageBytes: number;
}

/** Adds an RPC of one request message and many replies; `serve` sends them by `reply`, now or later, or throws. */
export function addServerStream(
  registry: Registry,
  path: string,
  options: StreamingOptions,
  serve: (bytes: Buffer, reply: StreamReply) => void,
): void {
  addMethod(registry, { path, kind: 'serverStream', isBare: true, ...options });
  const answer = (call: GatedCall): void => serveOne(registry.inflater, new StreamReply(call, registry.log), serve);
  registry.bare.set(path, (call) => receiveOne(call, answer));
}

/** What serves one bidirectional call: takes its messages, and says when it can take no more. */
export interface BidiHandler extends MessageHandler {
  /** Called once, before anything else. */
  start(reader: MessageReader): void;
}

/** Adds an RPC of many messages both ways; `serve` makes what serves one call. */
export function addBidi(
  registry: Registry,
  path: string,
  options: StreamingOptions,
  serve: (reply: StreamReply) => BidiHandler,
): void {
  addMethod(registry, { path, kind: 'bidi', isBare: true, ...options });
  registry.bare.set(path, (call) => {
    call.phase = 'streaming';
    const handler = serve(new StreamReply(call, registry.log));
    handler.start(new MessageReader(call, registry.inflater, handler));
  });
}
