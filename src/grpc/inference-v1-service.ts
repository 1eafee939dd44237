/**
 * inference.v1.InferenceService: the small contract beside the Open Inference Protocol, on the same port and the same engine.
 *
 * Called by `server.ts` once. ModelInfer and MultimodalInfer are `model-infer.ts`'s, StreamingModelInfer `token-stream.ts`'s.
 */
import type { Engine } from '../engine/types.js';
import { addControl } from './control.js';
import { methodOf, type Protos } from './proto.js';
import type { Registry } from './unary.js';

export const INFERENCE_V1_SERVICE = 'inference.v1.InferenceService';

/** Registers every RPC of the service but those of inference. */
export function addInferenceV1Service(registry: Registry, protos: Protos, engine: Engine): void {
  addControl(registry, methodOf(protos, INFERENCE_V1_SERVICE, 'ServerMetadata'), () => ({
    name: engine.serverName,
    version: engine.serverVersion,
  }));
}
