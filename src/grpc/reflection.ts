/**
 * Server reflection (v1 and v1alpha), so that grpcurl and its like need no proto file.
 *
 * Called by `server.ts`. The answers are @grpc/reflection's, from the descriptors that proto-loader attaches; here each stream gets
 * what that package leaves out: the gate, back-pressure, and an end when the server drains.
 */
import type { handleBidiStreamingCall, Server, ServerDuplexStream, ServiceDefinition } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { reflectedFiles } from './descriptors.js';
import { DRAINING } from './gate.js';
import { gatedCall } from './gated-call.js';
import type { Protos } from './proto.js';
import { addMethod, type Registry } from './unary.js';

type ReflectionCall = ServerDuplexStream<unknown, unknown>;
type Implementation = Record<string, handleBidiStreamingCall<unknown, unknown>>;

/** Names are short; one request asks for one of them. */
const REFLECTION_REQUEST_BYTES = 4096;

export interface Reflection {
  /** Ends open streams. */
  drain(): void;
}

/** Registers reflection of all services in `protos`. */
export function addReflection(registry: Registry, protos: Protos): Reflection {
  const open = new Set<ReflectionCall>();
  const guarded = {
    addService(definition: ServiceDefinition, implementation: Implementation) {
      for (const [name, method] of Object.entries(definition)) {
        addMethod(registry, {
          path: method.path,
          kind: 'bidi',
          isBare: false,
          maxMessageBytes: REFLECTION_REQUEST_BYTES,
        });
        const serve = implementation[name]!;
        const handler = (call: ReflectionCall): void => {
          gatedCall(call).phase = 'streaming';
          open.add(call);
          call.on('cancelled', () => open.delete(call));
          serve(call);
          pauseWhileFull(call);
        };
        registry.server.register(method.path, handler, method.responseSerialize, method.requestDeserialize, 'bidi');
      }
    },
  };
  new ReflectionService(reflectedFiles(protos)).addToServer(guarded as unknown as Server);
  return {
    drain() {
      for (const call of open) call.emit('error', { code: status.UNAVAILABLE, details: DRAINING });
      open.clear();
    },
  };
}

/** Reads on only while the client takes the answers: they are a thousand times longer than the questions. */
function pauseWhileFull(call: ReflectionCall): void {
  call.on('data', () => {
    if (call.writableNeedDrain) call.pause();
  });
  call.on('drain', () => call.resume());
}
