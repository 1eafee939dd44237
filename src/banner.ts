/**
 * What a person sees at start: where the server listens, which models it has, and commands that make a first inference and a first text.
 *
 * Called by `src/server.ts`, once, for stdout. Pure text.
 */
import { DATATYPES } from './base/datatype.js';
import type { ModelContent, ModelIndexEntry, ModelMetadata, TensorMetadata } from './engine/types.js';

export interface BannerFacts {
  readonly name: string;
  readonly version: string;
  /** Label and address of each open port, such as `['gRPC', '0.0.0.0:8001']`. */
  readonly addresses: readonly (readonly [label: string, address: string])[];
  readonly models: readonly ModelIndexEntry[];
  /** Loaded models, for the command. */
  readonly metadata: readonly (ModelMetadata & { readonly content: ModelContent })[];
  /** Base URL of REST as this machine reaches it; undefined when REST is off. */
  readonly httpUrl: string | undefined;
  /** Address of gRPC likewise. */
  readonly grpcTarget: string | undefined;
}

/** Inputs with more elements than this make no command that anybody wants to paste. */
const MAX_ELEMENTS = 64;

/** What texts begin with. */
const PROMPT = 'Once upon a time';

/** Models that are listed. */
const MAX_MODELS = 12;

export function banner(facts: BannerFacts): string {
  const lines = [`${facts.name} ${facts.version}`];
  for (const [label, address] of facts.addresses) lines.push(`  ${label.padEnd(8)} ${address}`);
  lines.push('models');
  // Of many models those come first that need somebody.
  const isReady = ({ state }: ModelIndexEntry) => state === 'READY';
  const all = facts.models;
  const shown = all.length <= MAX_MODELS ? all : [...all.filter((model) => !isReady(model)), ...all.filter(isReady)];
  const models = shown.slice(0, MAX_MODELS);
  const width = Math.max(0, ...models.map(({ name }) => name.length));
  for (const { name, version, state, reason } of models) {
    lines.push(
      `  ${name.padEnd(width)} ${(version || '-').padStart(3)}  ${state || 'UNKNOWN'}${reason ? `  ${reason}` : ''}`,
    );
  }
  if (all.length > models.length) lines.push(`  ... and ${all.length - models.length} more`);
  if (all.length === 0) lines.push('  none');
  const command = firstInference(facts);
  if (command) lines.push('first inference', `  ${command}`);
  const text = firstText(facts);
  if (text) lines.push('first text', `  ${text}`);
  return `${lines.join('\n')}\n`;
}

/** A curl or grpcurl command for the ready model with the fewest input elements. */
function firstInference({ metadata, httpUrl, grpcTarget }: BannerFacts): string | undefined {
  const counted = metadata
    .filter(({ content }) => !content.generation)
    .map((model) => ({ name: model.name, inputs: sampleInputs(model) }))
    .map((model) => ({ model, count: model.inputs.reduce((sum, input) => sum + elements(input), 0) }))
    .filter(({ count }) => count <= MAX_ELEMENTS)
    .sort((a, b) => a.count - b.count);
  const model = counted[0]?.model;
  if (!model) return undefined;
  if (httpUrl) {
    const inputs = model.inputs.map((input) => ({
      name: input.name,
      shape: shapeOf(input),
      datatype: input.datatype,
      data: sampleData(input),
    }));
    if (inputs.some(({ datatype }) => datatype === 'FP16')) return undefined; // not in JSON
    return `curl -s ${httpUrl}/v2/models/${encodeURIComponent(model.name)}/infer -d '${JSON.stringify({ inputs })}'`;
  }
  if (!grpcTarget) return undefined;
  const request = {
    model_name: model.name,
    inputs: model.inputs.map((input) => ({ name: input.name, datatype: input.datatype, shape: shapeOf(input) })),
    raw_input_contents: model.inputs.map((input) => sampleBytes(input).toString('base64')),
  };
  return `grpcurl -plaintext -d '${JSON.stringify(request)}' ${grpcTarget} inference.GRPCInferenceService/ModelInfer`;
}

/** A command that shows a text while it is made; of the first model that makes one. */
function firstText({ metadata, httpUrl, grpcTarget }: BannerFacts): string | undefined {
  const model = metadata.find(({ content }) => content.generation);
  if (!model) return undefined;
  if (httpUrl) {
    const path = `v2/models/${encodeURIComponent(model.name)}/generate_stream`;
    return `curl -sN ${httpUrl}/${path} -d '${JSON.stringify({ text_input: PROMPT })}'`;
  }
  if (!grpcTarget) return undefined;
  const request = {
    model_name: model.name,
    inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
    raw_input_contents: [bytesElement(PROMPT).toString('base64')],
  };
  return `grpcurl -plaintext -d '${JSON.stringify(request)}' ${grpcTarget} inference.GRPCInferenceService/ModelStreamInfer`;
}

/** A text where the model takes one, else its raw tensors: pictures are not for pasting. */
function sampleInputs({ inputs, content }: BannerFacts['metadata'][number]): readonly TensorMetadata[] {
  const text = content.inputs.find(({ kind }) => kind === 'text');
  if (text) return inputs.filter(({ name }) => name === text.name);
  return inputs.filter(({ name }) => !content.inputs.some((own) => own.name === name));
}

function shapeOf({ shape }: TensorMetadata): number[] {
  return shape.map((dim) => (dim < 0 ? 1 : dim));
}

function elements(input: TensorMetadata): number {
  return shapeOf(input).reduce((product, dim) => product * dim, 1);
}

function sampleData(input: TensorMetadata): (number | boolean | string)[] {
  return Array.from({ length: elements(input) }, (_, i) => {
    if (input.datatype === 'BYTES') return 'hello';
    return input.datatype === 'BOOL' ? i % 2 === 0 : i;
  });
}

/** Zeros; for each string one that a tokenizer has something to do with. */
function sampleBytes(input: TensorMetadata): Buffer {
  if (input.datatype !== 'BYTES') return Buffer.alloc(elements(input) * DATATYPES[input.datatype].byteSize);
  const element = bytesElement('hello');
  return Buffer.concat(Array.from({ length: elements(input) }, () => element));
}

/** After its length, as in raw layout. */
function bytesElement(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}
