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
import { bytesOf } from './kv-store.js';
import { type GraphValue, readValues } from './onnx-edit.js';
import { type GraphSkeleton, type ModelSkeleton, readOnnx } from './onnx-graph.js';
import { countedPositions } from './onnx-positions.js';
import { type RotationSwitch, rotationSwitch } from './onnx-rotation.js';
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

type RowLayout = Exclude<KvLayout, 'alone'>;

/** A model's file without its bytes, which are in memory only while a session is made of them. */
interface Graph {
  readonly model: ModelSkeleton;
  readonly outputs: readonly GraphValue[];
  readonly ports: DecoderPorts;
  /** Where the graph counts positions itself, and could be fed. */
  readonly counted: ReturnType<typeof countedPositions>;
  /** Where it chooses a rotation by the longest sequence of a run. */
  readonly rotation: RotationSwitch | undefined;
}

/** Throws ServeError for a model that can't be served, else what ONNX Runtime threw. */
export async function loadDecoder(spec: GenerationSpec): Promise<Decoder> {
  const bytes = await read(spec);
  let graph: Graph;
  try {
    const model = readOnnx(bytes);
    assertExternalDataInside(spec.directory, model.externalData);
    const { inputs, outputs } = readValues(bytes);
    const ports = readPorts(model, { inputs, outputs }, spec.names, spec.headSize);
    const counted = ports.positionIds ? undefined : countedPositions(model);
    graph = { model, outputs, ports, counted, rotation: rotationSwitch(model) };
  } catch (error) {
    freeBytes(bytes);
    throw error;
  }
  const notes: string[] = [];
  const { layouts, reason } = layoutsOf(graph, spec);
  if (layouts.length > 0) {
    const decoder = await loadTogether(spec, graph, { bytes, layouts, notes });
    if (decoder) return decoder;
    notes.push(reason === '' ? 'sequences run one at a time' : `sequences run one at a time: ${reason}`);
    return loadAlone(spec, graph, { bytes: await read(spec), notes });
  }
  notes.push(`sequences run one at a time: ${reason}`);
  return loadAlone(spec, graph, { bytes, notes });
}

async function read({ path }: GenerationSpec): Promise<Uint8Array> {
  const bytes = await readModel(path);
  if (bytes) return bytes;
  throw new ServeError(
    'INVALID_ARGUMENT',
    'model file is larger than 2 GB: save its weights as external data, which text generation maps',
  );
}

/** A decoder with the first layout that gives what a sequence gives alone; undefined where none does. */
async function loadTogether(
  spec: GenerationSpec,
  { model, outputs, ports, counted, rotation }: Graph,
  { bytes, layouts, notes }: { bytes: Uint8Array; layouts: readonly RowLayout[]; notes: string[] },
): Promise<Decoder | undefined> {
  const kv = ports.kv as readonly KvPort[];
  const isLong = rotation !== undefined && longest(spec, kv) > rotation.shortTokens;
  if (isLong) {
    notes.push(
      `past ${rotation.shortTokens} tokens its graph rotates otherwise, for all sequences of a step: it always does, ` +
        `unless max_sequence_length is at most ${rotation.shortTokens}`,
    );
  }
  const fixed = rotation && { node: rotation.node, isLong };
  const tap = tapDecoder(bytes, model, { ports, kv, counted, rotation: fixed, outputs });
  const positionIds =
    tap.positionIds === undefined ? ports.positionIds : { name: tap.positionIds, type: 'int64' as const };
  const tolerance = toleranceOf(model, ports, notes);
  const session = await sessionOf(spec, model, { bytes, tap });
  for (const layout of layouts) {
    const decoder = new BatchedDecoder({
      session,
      ports: { ...ports, positionIds },
      kv,
      tap,
      layout,
      ...sizesOf(spec),
    });
    let found: string;
    try {
      decoder.vocabularySize = await vocabularyOf(decoder);
      const distance = await probe(decoder, decoder.vocabularySize);
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
  await session.release();
  return undefined;
}

async function loadAlone(
  spec: GenerationSpec,
  { model, outputs, ports }: Graph,
  { bytes, notes }: { bytes: Uint8Array; notes: readonly string[] },
): Promise<Decoder> {
  const tap = tapDecoder(bytes, model, { ports, kv: undefined, counted: undefined, outputs });
  // Every length of a sequence is another shape, for each of which ONNX Runtime would keep a plan of its memory.
  const options = { ...spec.options, enableMemPattern: false };
  const session = await sessionOf({ ...spec, options }, model, { bytes, tap });
  try {
    const decoder = new AloneDecoder({ session, ports, logits: tap.logits, ...sizesOf(spec) });
    decoder.vocabularySize = await vocabularyOf(decoder);
    const problem = await problemInRuns(decoder);
    decoder.notes = problem === undefined ? notes : [...notes, `prompts are read token by token: ${problem}`];
    return decoder;
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Why runs of several tokens are not right for a sequence that has a past; such a decoder makes none from then on. */
async function problemInRuns(decoder: AloneDecoder): Promise<string | undefined> {
  let problem: string;
  try {
    const distance = await probe(decoder, decoder.vocabularySize);
    if (distance <= ROUNDED_TOGETHER) return undefined;
    problem = `logits of several runs differ from those of one by ${distance.toPrecision(2)} of their spread`;
  } catch (error) {
    problem = failureOf(error, 'run').message;
  }
  decoder.tokensPerRun = 1;
  await probe(decoder, decoder.vocabularySize);
  return problem;
}

/** Tokens that a sequence may come to have. */
function longest({ contextLength, kvCacheBytes }: GenerationSpec, kv: readonly KvPort[]): number {
  const perToken = kv.reduce((sum, port) => sum + port.heads * port.size * bytesOf(port), 0);
  return Math.min(contextLength, Math.floor(kvCacheBytes / perToken));
}

function sizesOf({ maxSequences, contextLength, kvCacheBytes }: GenerationSpec) {
  return { maxSequences, maxTokens: contextLength, kvCacheBytes };
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

/** The layouts that may be right, the likeliest first; where there is none, or none turns out to be right, why (or ''). */
function layoutsOf(
  { model: { graph, opset }, ports: { kv, attentionMask, positionIds }, counted }: Graph,
  { slidingWindow, contextLength }: GenerationSpec,
): { readonly layouts: readonly RowLayout[]; readonly reason: string } {
  const none = (reason: string) => ({ layouts: [], reason });
  if (typeof kv === 'string') return none(kv);
  if (!attentionMask) return none('it has no attention mask');
  if (opset < TAP_MIN_OPSET) return none(`its operator set ${opset} is older than ${TAP_MIN_OPSET}`);
  const has = (op: string) => graph.nodes.some((node) => node.op === op);
  if (has('GroupQueryAttention')) return { layouts: ['right'], reason: '' };
  // Others count past tokens, masked or not; only those that add up the mask know better.
  if (!positionIds && !counted && !has('CumSum')) {
    // Right where only the distance of tokens matters, as with the biases of MPT.
    return { layouts: ['left'], reason: 'it counts positions itself and has no input for them' };
  }
  return { layouts: slidingWindow >= contextLength ? ['holes', 'left'] : ['left'], reason: '' };
}

/**
 * How much company may change. With FP32, FP16, and weights of 4 or 8 bits (MatMulNBits), tokens are those alone but where two lie within
 * rounding of each other; FP16 rounds otherwise than a loop that has no room between tokens. Activations of 8 bits have one scale for a
 * whole run, whatever serves it: there, few texts of company are those alone.
 */
function toleranceOf({ graph }: ModelSkeleton, { kv, logitsType }: DecoderPorts, notes: string[]): number {
  const has = (ops: readonly string[]) => holds(graph, ops);
  if (has(TOGETHER)) {
    notes.push(
      'activations are rounded to 8 bits for all sequences of a step together: the text of one depends on the others',
    );
    return ROUNDED_TOGETHER;
  }
  const half = logitsType === 'float16' || (typeof kv !== 'string' && kv.some(({ type }) => type === 'float16'));
  return half || has(FEW_BITS) ? ROUNDED : EXACT;
}

/** Also in the branches that merged decoders have for the first token and for the others. */
function holds({ nodes }: GraphSkeleton, ops: readonly string[]): boolean {
  return nodes.some(
    ({ op, attributes }) =>
      ops.includes(op) || attributes.some(({ graphs }) => graphs.some((graph) => holds(graph, ops))),
  );
}

/** Frees the file's bytes, and the edited ones when the session is there. */
async function sessionOf(
  spec: GenerationSpec,
  model: ModelSkeleton,
  { bytes, tap }: { readonly bytes: Uint8Array; readonly tap: Tap },
): Promise<InferenceSession> {
  freeBytes(bytes);
  const options = ortOptions(spec.options);
  const extra = options.extra as { readonly session?: Record<string, unknown> };
  // What has no path has no directory, in which external data is looked for.
  const folder = { model_external_initializers_file_folder_path: dirname(spec.path) };
  const withFolder = { ...options, extra: { ...extra, session: { ...extra.session, ...folder } } };
  const external = model.externalData.length > 0;
  try {
    return await createSession(tap.bytes, external ? withFolder : options, spec.options.executionProviders);
  } finally {
    freeBytes(tap.bytes);
  }
}
