/**
 * grpc.health.v1.Health: Check and Watch over the engine's readiness.
 *
 * Called by `server.ts`. The proto comes from grpc-health-check; its implementation is not used: it keeps a watcher list for every
 * name a client makes up, and queues without bound for a watcher that does not read. Must not decide what ready means.
 */
import { type ServerWritableStream, status } from '@grpc/grpc-js';
import { printable, ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import { addControl } from './control.js';
import { DRAINING } from './gate.js';
import { gatedCall } from './gated-call.js';
import { methodOf, type Protos } from './proto.js';
import { addMethod, type Registry } from './unary.js';

type HealthStatus = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
interface HealthRequest {
  readonly service: string;
}
interface HealthResponse {
  readonly status: HealthStatus;
}

const HEALTH_SERVICE = 'grpc.health.v1.Health';
const HEALTH_REQUEST_BYTES = 4096;

export interface Health {
  /** NOT_SERVING from now on; open watches are told and ended. */
  drain(): void;
}

export interface HealthOptions {
  readonly protos: Protos;
  readonly engine: Engine;
  /** Names that can be asked for, beside '' (the server as a whole). */
  readonly services: readonly string[];
}

/** Registers the health service. */
export function addHealth(registry: Registry, { protos, engine, services }: HealthOptions): Health {
  const known = new Set(['', ...services]);
  const watches = new Set<Watch>();
  let draining = false;
  const serving = (): HealthStatus => (!draining && engine.isReady() ? 'SERVING' : 'NOT_SERVING');
  const statusOf = (name: string): HealthStatus => (known.has(name) ? serving() : 'SERVICE_UNKNOWN');

  addControl(
    registry,
    methodOf(protos, HEALTH_SERVICE, 'Check'),
    ({ service: name }: HealthRequest) => {
      if (!known.has(name))
        throw new ServeError('NOT_FOUND', `health status of service '${printable(name)}' is unknown`);
      return { status: serving() };
    },
    { whileDraining: true },
  );
  addControl(
    registry,
    methodOf(protos, HEALTH_SERVICE, 'List'),
    () => ({ statuses: Object.fromEntries([...known].map((name) => [name, { status: serving() }])) }),
    { whileDraining: true },
  );

  const { path, requestDeserialize, responseSerialize } = methodOf(protos, HEALTH_SERVICE, 'Watch');
  addMethod(registry, { path, kind: 'serverStream', isBare: false, maxMessageBytes: HEALTH_REQUEST_BYTES });
  registry.server.register(
    path,
    (call: ServerWritableStream<HealthRequest, HealthResponse>) => {
      gatedCall(call).phase = 'streaming';
      const watch = new Watch(call, () => statusOf(call.request.service));
      watches.add(watch);
      call.on('cancelled', () => watches.delete(watch));
      watch.tell();
    },
    responseSerialize,
    requestDeserialize as (bytes: Buffer) => HealthRequest,
    'serverStream',
  );

  engine.onReadinessChange(() => {
    for (const watch of watches) watch.tell();
  });
  return {
    drain() {
      draining = true;
      for (const watch of watches) {
        watch.tell();
        watch.end();
      }
      watches.clear();
    },
  };
}

/** One Watch call: tells each change once, and only the newest to a reader that is behind. */
class Watch {
  #told: HealthStatus | undefined;
  readonly #call: ServerWritableStream<HealthRequest, HealthResponse>;
  readonly #status: () => HealthStatus;

  constructor(call: ServerWritableStream<HealthRequest, HealthResponse>, current: () => HealthStatus) {
    this.#call = call;
    this.#status = current;
    call.on('drain', () => this.tell());
  }

  tell(): void {
    const now = this.#status();
    if (now === this.#told || this.#call.writableNeedDrain) return;
    this.#told = now;
    this.#call.write({ status: now });
  }

  end(): void {
    this.#call.emit('error', { code: status.UNAVAILABLE, details: DRAINING });
  }
}
