/**
 * The warm-up requests of a model's configuration as entries that can be run.
 *
 * Called by the engine while it loads a model. Reads the data files that the config names. Throws ServeError.
 */
import { randomFillSync } from 'node:crypto';
import { nowMs } from '../base/clock.js';
import { DATATYPES } from '../base/datatype.js';
import { Timeline } from '../base/timeline.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';
import type { Warmup, WarmupInput } from './model-config.js';
import type { RepositoryEntry } from './repository.js';
import { readWarmupFile } from './repository-file.js';
import { elementCount } from './tensor-spec.js';
import type { InferHandler, InferInput } from './types.js';
import { admit } from './validate.js';

/** The entry of one warm-up run; its handler is told how it went. */
export async function warmUpEntry(
  model: Model,
  warmup: Warmup,
  directory: RepositoryEntry,
  handler: InferHandler,
): Promise<Entry> {
  const inputs: InferInput[] = [];
  for (const [name, input] of warmup.inputs) {
    const shape = model.batching ? [warmup.batchSize, ...input.dims] : input.dims;
    inputs.push({ name, datatype: input.datatype, shape, data: await warmUpData(input, shape, directory) });
  }
  const now = nowMs();
  const timeline = new Timeline(now);
  timeline.queued = now;
  return admit(
    model,
    {
      modelName: model.name,
      modelVersion: model.version,
      id: warmup.name,
      inputs,
      outputs: [],
      parameters: new Map(),
      arm: 'grpc_raw',
      deadlineMs: Number.POSITIVE_INFINITY,
      timeline,
    },
    handler,
    now,
  );
}

async function warmUpData(
  { datatype, source }: WarmupInput,
  shape: readonly number[],
  directory: RepositoryEntry,
): Promise<Uint8Array> {
  if (source.kind === 'file') return readWarmupFile(directory, source.file);
  const count = elementCount(shape);
  // Empty strings for BYTES: Triton's zero data and its random data alike.
  if (datatype === 'BYTES') return new Uint8Array(4 * count);
  const bytes = new Uint8Array(count * DATATYPES[datatype].byteSize);
  if (source.kind === 'random') {
    randomFillSync(bytes);
    if (datatype === 'BOOL') for (let i = 0; i < bytes.length; i++) bytes[i]! &= 1;
  }
  return bytes;
}
