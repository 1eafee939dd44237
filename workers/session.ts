/**
 * One ONNX Runtime session of one model version on this worker: load, run in place on shared memory, release.
 *
 * Called by workers/inference-worker.ts. Owns the session. Must not allocate shared memory, read configuration, or throw for an
 * expected failure of a run. `session.run` blocks this thread (it is synchronous inside a setImmediate).
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { nowMs } from '#src/base/clock';
import { type Datatype, datatypeOfOrt } from '#src/base/datatype';
import type { CompileRequest, LoadRequest, RunReply, SessionMetadata, SessionTensor } from '#src/runtime/messages';
import { failureOf, isShapeSurprise } from './ort-error.js';
import { createPooling, EMBEDDING, MASK, type Pooling, PoolingSurprise } from './pooling.js';
import { createSession, ortOptions, scanFile } from './session-create.js';
import { ownedOutput, tensorView } from './session-tensors.js';

interface Port {
  readonly name: string;
  readonly datatype: Datatype;
}

export class Session {
  readonly metadata: SessionMetadata;
  readonly #session: InferenceSession;
  readonly #inputs: readonly Port[];
  readonly #outputs: readonly Port[];
  /** Makes the last of the outputs, which the file does not have. */
  readonly #pooling: Pooling | undefined;

  private constructor(session: InferenceSession, metadata: SessionMetadata, pooling: Pooling | undefined) {
    this.#session = session;
    this.metadata = metadata;
    this.#pooling = pooling;
    // A tensor of a type that the protocol lacks fails the load on main; the run path never meets it.
    const port = (tensor: SessionTensor): Port => ({
      name: tensor.name,
      datatype: datatypeOfOrt(tensor.ortType) ?? 'BYTES',
    });
    this.#inputs = metadata.inputs.map(port);
    this.#outputs = metadata.outputs.map(port);
  }

  /** Loads by path, so that external and pre-packed weights are mapped and shared. Throws ServeError or ONNX Runtime's error. */
  static async load(request: LoadRequest): Promise<Session> {
    const began = nowMs();
    const scan = request.scan ? await scanFile(request.path, request.directory) : undefined;
    // As narrow as can be: what other threads take meanwhile is counted, too.
    const residentBytes = process.memoryUsage.rss();
    const session = await createSession(request.path, ortOptions(request.options), request.options.executionProviders);
    const grownBytes = process.memoryUsage.rss() - residentBytes;
    try {
      const outputs = session.outputMetadata.map(sessionTensor);
      const pooling = createPooling(request.pooling, outputs);
      const metadata = {
        inputs: session.inputMetadata.map(sessionTensor),
        outputs: pooling ? [...outputs, pooling.output] : outputs,
        integerDivision: (scan?.integerDivision.length ?? 0) > 0,
        loadMs: nowMs() - began,
        grownBytes,
      };
      return new Session(session, metadata, pooling);
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  /**
   * Runs one batch as `message` (see runtime/messages.ts) lays it out over `slab`. Resolves to the answer to post and the buffers
   * to transfer with it; failures are part of the answer.
   */
  async run(
    message: readonly number[],
    slab: SharedArrayBuffer,
  ): Promise<{ answer: number[] | RunReply; transfer: ArrayBuffer[] }> {
    const batch = message[0]!;
    let computeStart = nowMs();
    try {
      const { feeds, fetches, owned, embedding } = this.#tensors(message, slab);
      computeStart = nowMs();
      const results = (await this.#session.run(feeds, fetches as InferenceSession.FetchesType)) as Record<
        string,
        Tensor
      >;
      if (embedding !== undefined) this.#pool(feeds, results, embedding);
      const computeEnd = nowMs();
      if (owned.length === 0) return { answer: [batch, computeStart, computeEnd], transfer: [] };
      const outputs = owned.map((index) => ownedOutput(index, results[this.#outputs[index]!.name]!));
      return {
        answer: { type: 'ran', batch, computeStart, computeEnd, outputs },
        transfer: outputs.map((output) => output.buffer),
      };
    } catch (error) {
      const answer: RunReply = {
        type: 'ran',
        batch,
        computeStart,
        computeEnd: nowMs(),
        outputs: [],
        failure: failureOf(error, 'run'),
        shapeSurprise: error instanceof PoolingSurprise || (error instanceof Error && isShapeSurprise(error.message)),
      };
      return { answer, transfer: [] };
    }
  }

  /** Views for what the message lays out, and the outputs that are not preallocated. */
  #tensors(message: readonly number[], slab: SharedArrayBuffer) {
    const feeds: Record<string, Tensor> = {};
    const fetches: Record<string, Tensor | null> = {};
    const owned: number[] = [];
    /** The tensor for the pooled embedding, null where it is not preallocated, undefined where nobody asks for it. */
    let embedding: Tensor | null | undefined;
    let at = 3;
    for (let n = message[at++]!; n > 0; n--) {
      const { name, datatype } = this.#inputs[message[at]!]!;
      feeds[name] = tensorView(datatype, slab, message, at);
      at += 4 + message[at + 3]!;
    }
    for (let n = message[at++]!; n > 0; n--) {
      const index = message[at]!;
      const { name, datatype } = this.#outputs[index]!;
      const view = message[at + 1]! < 0 ? null : tensorView(datatype, slab, message, at);
      if (view === null) owned.push(index);
      if (this.#pooling && name === EMBEDDING) embedding = view;
      else fetches[name] = view;
      at += 4 + message[at + 3]!;
    }
    if (embedding !== undefined) fetches[this.#pooling!.source] ??= null;
    return { feeds, fetches, owned, embedding };
  }

  /** Adds the pooled embedding to `results`, in the memory of `target` where there is one. */
  #pool(feeds: Readonly<Record<string, Tensor>>, results: Record<string, Tensor>, target: Tensor | null): void {
    const pooling = this.#pooling!;
    const data = target?.data as Float32Array | undefined;
    const pooled = pooling.run(results[pooling.source]!, feeds[MASK], data);
    results[EMBEDDING] = target ?? new ort.Tensor('float32', pooled.data, pooled.dims);
  }

  /** Frees the native session; without it every reload leaks. */
  async release(): Promise<void> {
    await this.#session.release();
  }
}

/** Checks `source`, then writes it optimized to `target`, its weights external and pre-packed beside it. */
export async function compileModel({
  source,
  directory,
  target,
  options,
}: CompileRequest): Promise<{ integerDivision: boolean }> {
  const scan = await scanFile(source, directory);
  const base = ortOptions(options);
  const saving = {
    ...base,
    optimizedModelFilePath: target,
    extra: {
      session: {
        ...(base.extra?.session as Record<string, unknown> | undefined),
        optimized_model_external_initializers_file_name: 'model.onnx_data',
        optimized_model_external_initializers_min_size_in_bytes: '1024',
        save_external_prepacked_constant_initializers: '1',
      },
    },
  } as InferenceSession.SessionOptions;
  const session = await createSession(source, saving, options.executionProviders);
  await session.release();
  return { integerDivision: (scan?.integerDivision.length ?? 0) > 0 };
}

function sessionTensor(metadata: InferenceSession.ValueMetadata): SessionTensor {
  if (!metadata.isTensor) return { name: metadata.name, ortType: 'not a tensor', dims: [] };
  return { name: metadata.name, ortType: metadata.type, dims: metadata.shape };
}
