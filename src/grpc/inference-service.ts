/**
 * inference.GRPCInferenceService: the Open Inference Protocol with Triton's extensions.
 *
 * Called by `server.ts` once. ModelInfer is `model-infer.ts`'s, ModelStreamInfer `model-stream-infer.ts`'s. Must not validate tensors, pick versions or know a model's state: it
 * asks the engine.
 */
import type { ErrorCode } from '../base/errors.js';
import { ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import { addControl } from './control.js';
import type { GatedCall } from './gated-call.js';
import { methodOf, type Protos } from './proto.js';
import { addRefused, type Registry } from './unary.js';

export const INFERENCE_SERVICE = 'inference.GRPCInferenceService';

interface ModelRef {
  readonly name: string;
  readonly version: string;
}

/** RPCs that exist in the proto and answer an error; Triton's texts where clients match them. */
const REFUSED: Readonly<Record<string, { code: ErrorCode; message: string }>> = {
  RepositoryModelLoad: modelControl(),
  RepositoryModelUnload: modelControl(),
  SystemSharedMemoryStatus: sharedMemory('SystemSharedMemoryStatus'),
  SystemSharedMemoryRegister: sharedMemory('SystemSharedMemoryRegister'),
  SystemSharedMemoryUnregister: sharedMemory('SystemSharedMemoryUnregister'),
  CudaSharedMemoryStatus: sharedMemory('CudaSharedMemoryStatus'),
  CudaSharedMemoryRegister: sharedMemory('CudaSharedMemoryRegister'),
  CudaSharedMemoryUnregister: sharedMemory('CudaSharedMemoryUnregister'),
  TraceSetting: unimplemented('TraceSetting is not supported: this server has no trace settings'),
  LogSettings: unimplemented('LogSettings is not supported: log settings are fixed at start'),
};

/** Registers every RPC of the service but those of inference. */
export function addInferenceService(registry: Registry, protos: Protos, engine: Engine): void {
  const method = (rpc: string) => methodOf(protos, INFERENCE_SERVICE, rpc);

  addControl(registry, method('ServerLive'), () => ({ live: true }));
  addControl(registry, method('ServerReady'), () => ({ ready: engine.isReady() }));
  addControl(registry, method('ModelReady'), ({ name, version }: ModelRef) => ({
    ready: engine.isModelReady(name, version),
  }));
  addControl(registry, method('ServerMetadata'), () => ({
    name: engine.serverName,
    version: engine.serverVersion,
    extensions: engine.extensions,
  }));
  addControl(registry, method('ModelMetadata'), async ({ name, version }: ModelRef, call) => {
    await whenReady(engine, { name, version }, call);
    return engine.modelMetadata(name, version);
  });
  addControl(registry, method('ModelConfig'), async ({ name, version }: ModelRef, call) => {
    await whenReady(engine, { name, version }, call);
    return { config: engine.modelConfig(name, version) };
  });
  addControl(registry, method('ModelStatistics'), ({ name, version }: ModelRef) => ({
    model_stats: engine.modelStatistics(name, version),
  }));
  addControl(
    registry,
    method('RepositoryIndex'),
    ({ repository_name, ready }: { readonly repository_name: string; readonly ready: boolean }) => {
      if (repository_name !== '') {
        throw new ServeError('UNIMPLEMENTED', "'repository_name' specification is not supported");
      }
      return { models: engine.repositoryIndex(ready) };
    },
  );
  for (const [rpc, refusal] of Object.entries(REFUSED)) addRefused(registry, method(rpc).path, refusal);
}

/** As the engine's, for as long as the caller waits. */
function whenReady(
  engine: Engine,
  { name, version }: ModelRef,
  call: Pick<GatedCall, 'deadlineMs' | 'onGone'>,
): Promise<void> {
  const aborter = new AbortController();
  // With a reason: without one an abort makes an error with its stack.
  call.onGone = () => aborter.abort('gone');
  return engine.whenReady(name, version, call.deadlineMs, aborter.signal);
}

function unimplemented(message: string): { code: ErrorCode; message: string } {
  return { code: 'UNIMPLEMENTED', message };
}

function sharedMemory(rpc: string): { code: ErrorCode; message: string } {
  return unimplemented(`Client shared memory is disabled: ${rpc} is not supported by this server`);
}

function modelControl(): { code: ErrorCode; message: string } {
  return {
    code: 'UNAVAILABLE',
    message: 'explicit model load / unload is not allowed if polling is enabled',
  };
}
