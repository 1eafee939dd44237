/**
 * Unary RPCs with small messages: decoded and encoded by proto-loader, answered by a function of the request.
 *
 * Called by the services. Must not serve an RPC that carries tensors.
 */
import type { MethodDefinition } from '@grpc/grpc-js';
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { GatedCall } from './gated-call.js';
import { addUnary, CONTROL_MESSAGE_BYTES, type Registry } from './unary.js';

/** Answers a request, now or later (`call` says how long its caller waits), or fails with ServeError. */
export type Answer<Request, Response> = (
  request: Request,
  call: Pick<GatedCall, 'deadlineMs' | 'onGone'>,
) => Response | Promise<Response>;

/** Adds a control RPC; `Request` must be the proto's message as proto-loader gives it. */
export function addControl<Request, Response extends object>(
  registry: Registry,
  method: MethodDefinition<object, object>,
  answer: Answer<Request, Response>,
  options: { readonly whileDraining?: boolean } = {},
): void {
  addUnary(registry, method.path, { maxMessageBytes: CONTROL_MESSAGE_BYTES, ...options }, (bytes, reply) => {
    let request: Request;
    try {
      request = method.requestDeserialize(bytes) as Request;
    } catch {
      throw new ServeError('INTERNAL', `failed to parse ${method.path.slice(1)} request`);
    }
    reply.timeline.decoded = nowMs();
    const answered = answer(request, reply.call);
    if (!(answered instanceof Promise)) {
      reply.send(method.responseSerialize(answered));
      return;
    }
    answered
      .then((response) => reply.send(method.responseSerialize(response)))
      .catch((error: unknown) => reply.fail(ServeError.from(error)));
  });
}
