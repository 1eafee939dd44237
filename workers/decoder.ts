/**
 * Loads a model that generates text: reads its graph, taps it, makes the session, and finds the layout in which its state can be kept.
 *
 * Called by the token-stream worker. The layouts that the graph allows are tried in turn, each against runs without company; where none is
 * right, sequences run one at a time. The session is made from bytes, with the tap in them; external data is mapped from the directory.
 */
import { dirname } from 'node:path';
import type { InferenceSession } from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { GenerationSpec, KvLayout } from '#src/runtime/generation-messages';
import { AloneDecoder } from './decoder-alone.js';
import { BatchedDecoder } from './decoder-batched.js';
import { type DecoderPorts, type KvPort, readPorts } from './decoder-ports.js';
import { probe } from './decoder-probe.js';
import type { Decoder } from './decoder-types.js';
import { assertExternalDataInside } from './external-data.js';
import { readValues } from './onnx-edit.js';
import { type ModelSkeleton, readOnnx } from './onnx-graph.js';
import { countedPositions } from './onnx-positions.js';
import { TAP_MIN_OPSET, type Tap, tapDecoder } from './onnx-tap.js';
import { failureOf } from './ort-error.js';
import { createSession, freeBytes, ortOptions, readModel } from './session-create.js';

/** How far logits in company may be from those alone, where rounding alone, ... */
const EXACT = 1e-4;
/** ... kernels with 16 bits or weights of few bits ... */
const ROUNDED = 3e-2;
/** ... or activations that are rounded to 8 bits for all rows of a run together make the difference. */
const ROUNDED_TOGETHER = 0.25;

const FEW_BITS = ['MatMulNBits', 'MatMulBnb4', 'DequantizeLinear', 'GatherBlockQuantized'];
const TOGETHER = ['DynamicQuantizeLinear', 'MatMulInteger', 'DynamicQuantizeMatMul', 'ConvInteger'];

/** Throws ServeError for a model that can't be served, else what ONNX Runtime threw. */
export async function loadDecoder(spec: GenerationSpec): Promise<Decoder> {
  const bytes = await readModel(spec.path);
  if (bytes === undefined) {
    throw new ServeError(
      'INVALID_ARGUMENT',
      'model file is larger than 2 GB: save its weights as external data, which text generation maps',
    );
  }
  try {
    const model = readOnnx(bytes);
    assertExternalDataInside(spec.directory, model.externalData);
    return await fromGraph(spec, bytes, model);
  } finally {
    freeBytes(bytes);
  }
}

async function fromGraph(spec: GenerationSpec, bytes: Uint8Array, model: ModelSkeleton): Promise<Decoder> {
  const values = readValues(bytes);
  const ports = readPorts(model, values, spec.names);
  const counted = ports.positionIds ? undefined : countedPositions(model);
  const { candidates, reason } = layoutsOf(model, ports, spec, counted !== undefined);
  const notes: string[] = [];
  const sizes = {
    maxSequences: spec.maxSequences,
    maxTokens: spec.contextLength,
    kvCacheBytes: spec.kvCacheBytes,
  };
  if (candidates.length === 0) notes.push(`sequences run one at a time: ${reason}`);
  else {
    const kv = ports.kv as readonly KvPort[];
    const tap = tapDecoder(bytes, model, { ports, kv, counted, outputs: values.outputs });
    const positionIds =
      tap.positionIds === undefined ? ports.positionIds : ({ name: tap.positionIds, type: 'int64' } as const);
    const session = await sessionOf(spec, model, tap);
    try {
      const decoder = await firstRight(
        candidates,
        toleranceOf(model, ports, notes),
        notes,
        (layout) => new BatchedDecoder({ session, ports: { ...ports, positionIds }, kv, tap, layout, ...sizes }),
      );
      if (decoder) return decoder;
    } catch (error) {
      await session.release();
      throw error;
    }
    await session.release();
    notes.push('sequences run one at a time');
  }
  const tap = tapDecoder(bytes, model, { ports, kv: undefined, counted: undefined, outputs: values.outputs });
  const session = await sessionOf(spec, model, tap);
  try {
    const decoder = new AloneDecoder({ session, ports, logits: tap.logits, ...sizes });
    decoder.vocabularySize = await vocabularyOf(decoder);
    decoder.notes = notes;
    return decoder;
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** The first layout that gives what a sequence gives alone, ready to serve. */
async function firstRight(
  candidates: readonly Exclude<KvLayout, 'alone'>[],
  tolerance: number,
  notes: string[],
  make: (layout: Exclude<KvLayout, 'alone'>) => BatchedDecoder,
): Promise<BatchedDecoder | undefined> {
  let vocabularySize = 0;
  for (const layout of candidates) {
    const decoder = make(layout);
    vocabularySize ||= await vocabularyOf(decoder);
    decoder.vocabularySize = vocabularySize;
    let found: string;
    try {
      const distance = await probe(decoder, vocabularySize);
      if (distance <= tolerance) {
        decoder.notes = notes;
        return decoder;
      }
      found = `logits in company differ by ${distance.toPrecision(2)} of their spread`;
    } catch (error) {
      found = failureOf(error, 'run').message;
    }
    notes.push(`layout '${layout}' of keys and values is not right for this model: ${found}`);
  }
  return undefined;
}

/** The first run. */
async function vocabularyOf(decoder: Decoder): Promise<number> {
  const row = decoder.add();
  try {
    const logits = await decoder.prefill(row, new Int32Array(1), true);
    return logits!.length;
  } finally {
    decoder.remove(row);
  }
}

function layoutsOf(
  { graph, opset }: ModelSkeleton,
  { kv, attentionMask, positionIds }: DecoderPorts,
  { slidingWindow, contextLength }: GenerationSpec,
  countedByRange: boolean,
): { readonly candidates: readonly Exclude<KvLayout, 'alone'>[]; readonly reason: string } {
  const none = (reason: string) => ({ candidates: [], reason });
  if (typeof kv === 'string') return none(kv);
  if (!attentionMask) return none('it has no attention mask');
  if (opset < TAP_MIN_OPSET) return none(`its operator set ${opset} is older than ${TAP_MIN_OPSET}`);
  const has = (op: string) => graph.nodes.some((node) => node.op === op);
  if (has('GroupQueryAttention')) return { candidates: ['right'], reason: '' };
  // Others count past tokens, masked or not; only those that add up the mask know better.
  if (!positionIds && !countedByRange && !has('CumSum'))
    return none('it counts positions itself and has no input for them');
  return { candidates: slidingWindow >= contextLength ? ['holes', 'left'] : ['left'], reason: '' };
}

function toleranceOf({ graph }: ModelSkeleton, { kv, logitsType }: DecoderPorts, notes: string[]): number {
  const has = (ops: readonly string[]) => graph.nodes.some(({ op }) => ops.includes(op));
  if (has(TOGETHER)) {
    notes.push(
      'activations are rounded to 8 bits for all sequences of a step together: the text of one depends a little on the others',
    );
    return ROUNDED_TOGETHER;
  }
  const half = logitsType === 'float16' || (typeof kv !== 'string' && kv.some(({ type }) => type === 'float16'));
  return half || has(FEW_BITS) ? ROUNDED : EXACT;
}

async function sessionOf(spec: GenerationSpec, model: ModelSkeleton, { bytes }: Tap): Promise<InferenceSession> {
  const options = ortOptions(spec.options);
  const extra = options.extra as { readonly session?: Record<string, unknown> };
  // What has no path has no directory, in which external data is looked for.
  const folder = { model_external_initializers_file_folder_path: dirname(spec.path) };
  const withFolder = { ...options, extra: { ...extra, session: { ...extra.session, ...folder } } };
  const external = model.externalData.length > 0;
  try {
    return await createSession(bytes, external ? withFolder : options, spec.options.executionProviders);
  } finally {
    freeBytes(bytes);
  }
}
