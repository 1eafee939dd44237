/**
 * The services' definitions, loaded from `proto/` once at start.
 *
 * Called by the services (codecs of the small RPCs) and by reflection (file descriptors). The messages of inference are not decoded
 * by these definitions: `infer-decode.ts`, its neighbours and `infer-encode.ts` do that.
 */
import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { protoPath as healthProtoPath } from 'grpc-health-check';

/** Services and messages by full name, with their file descriptors. */
export type Protos = PackageDefinition;

const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true } as const;

const PROTO_DIR = fileURLToPath(new URL('../../proto', import.meta.url));

/** All services and messages of this server but reflection's own, which its package registers. */
export function loadProtos(): Protos {
  const ours = loadSync(['open_inference_grpc.proto', 'inference_service.proto'], {
    ...OPTIONS,
    includeDirs: [PROTO_DIR],
  });
  return { ...ours, ...loadSync(healthProtoPath, OPTIONS) };
}

/** A method's definition by service and name; throws when the proto has none (a bug). */
export function methodOf(protos: Protos, service: string, rpc: string): MethodDefinition<object, object> {
  const methods = protos[service] as ServiceDefinition | undefined;
  const method = methods?.[rpc];
  if (method === undefined) throw new Error(`no ${service}/${rpc} in the protos`);
  return method as MethodDefinition<object, object>;
}
