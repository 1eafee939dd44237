/**
 * Paths of the protocol over HTTP, and the JSON of its small answers: metadata of server and model, and whole generated texts.
 *
 * Called by `rest-client.ts` and `rest-stream.ts`. What another server leaves out is empty here. Must not know a connection.
 */
import { printable } from '../base/errors.js';
import { ClientError } from './client-error.js';
import { parametersText } from './rest-encode.js';
import { messageOfJson } from './rest-status.js';
import type { GenerateRequest, ModelMetadata, ServerMetadata, TensorMetadata } from './types.js';

/** `/v2/models/...`. Throws a local INVALID_ARGUMENT without a name. */
export function modelPath(model: string, version: string | undefined, rest: string): string {
  if (typeof model !== 'string' || model === '') {
    throw new ClientError('INVALID_ARGUMENT', 'the request names no model', { local: true });
  }
  const versionPath = version ? `/versions/${encodeURIComponent(version)}` : '';
  return `/v2/models/${encodeURIComponent(model)}${versionPath}${rest}`;
}

type Json = Readonly<Record<string, unknown>>;

/** The object in `body`. Throws INTERNAL for anything else. */
export function parseObject(body: Buffer | string, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch (cause) {
    throw new ClientError('INTERNAL', `${what} is no JSON: ${printable(body.toString(), 60)}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new ClientError('INTERNAL', `${what} is no JSON object: ${printable(body.toString(), 60)}`);
}

export function parseServerMetadata(body: Buffer): ServerMetadata {
  const { name, version, extensions } = parseObject(body, "the server's metadata");
  return { name: text(name), version: text(version), extensions: list(extensions).map(text) };
}

export function parseModelMetadata(body: Buffer): ModelMetadata {
  const { name, versions, platform, inputs, outputs } = parseObject(body, "the model's metadata");
  return {
    name: text(name),
    versions: list(versions).map(text),
    platform: text(platform),
    inputs: list(inputs).map(tensor),
    outputs: list(outputs).map(tensor),
  };
}

/** Names of the inputs that may be left out, of a model's configuration; undefined where that lists none. */
export function parseOptionalInputs(body: Buffer): ReadonlySet<string> | undefined {
  const inputs = list(parseObject(body, "the model's configuration").input) as readonly (Json | null)[];
  if (inputs.length === 0) return undefined;
  return new Set(inputs.filter((input) => input?.optional === true).map((input) => text(input?.name)));
}

function tensor(value: unknown): TensorMetadata {
  const { name, datatype, shape } = (value ?? {}) as Json;
  return { name: text(name), datatype: text(datatype) as TensorMetadata['datatype'], shape: list(shape).map(Number) };
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/**
 * A body of Triton's generate extension. Parameters stand beside the text, where servers look for both their inputs and their parameters;
 * the caller's count more than `more`.
 */
export function generateBody(
  { text: prompt, parameters }: GenerateRequest,
  more?: GenerateRequest['parameters'],
): Buffer {
  return Buffer.from(parametersText({ ...more, ...parameters, text_input: prompt }));
}

/** The text in a whole answer, or in one event of a stream. Throws ClientError for an error, and for what holds no text. */
export function generatedText(body: Buffer | string, what: string): string {
  const answer = parseObject(body, what);
  const { text_output: output } = answer;
  if (typeof output === 'string') return output;
  if (Array.isArray(output) && output.every((part) => typeof part === 'string')) return output.join('');
  // What an event tells has no status any more.
  if (answer.error !== undefined)
    throw new ClientError('UNKNOWN', messageOfJson(answer) ?? 'the server tells of an error');
  const members = Object.keys(answer).map((name) => printable(name));
  throw new ClientError(
    'INTERNAL',
    `${what} has no 'text_output', it has: ${members.slice(0, 16).join(', ') || 'nothing'}`,
  );
}
