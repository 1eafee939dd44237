/**
 * The parser of OpenAI's embeddings requests: bytes to an `EmbeddingsRequest`, with inputs in the protocol's raw layout.
 *
 * Called by `rest/` for small bodies and by the JSON worker for large ones. Builds no tree. Members it does not know are checked and
 * ignored, since clients pass on whatever they are given; of duplicate members the last counts; null means absent.
 */
import {
  EMBEDDINGS_LIMITS,
  type EmbeddingEncoding,
  type EmbeddingsRequest,
  type ParsedEmbeddings,
} from './embeddings-json.js';
import { type EmbeddingsInput, readEmbeddingsInput } from './embeddings-json-input.js';
import { printable } from './errors.js';
import { createJsonReader, type JsonReader } from './json-reader.js';
import { skipValue } from './json-skip.js';
import { MemberError, wrongType } from './member-error.js';

/** The request in `body`, or which member of it is wrong. Throws INVALID_ARGUMENT for what is no JSON object. */
export function parseEmbeddingsRequest(body: Uint8Array): ParsedEmbeddings {
  const reader = createJsonReader(body);
  try {
    return { ok: true, request: readRequest(reader) };
  } catch (error) {
    if (error instanceof MemberError) return { ok: false, refusal: { param: error.param, message: error.message } };
    throw error;
  }
}

function readRequest(reader: JsonReader): EmbeddingsRequest {
  let model: string | undefined;
  let input: EmbeddingsInput | undefined;
  let encodingFormat: EmbeddingEncoding | undefined;
  let dimensions: number | undefined;
  let truncate: boolean | undefined;
  reader.readObject('the request', (key) => {
    if (key === 'model') model = readString(reader, key, EMBEDDINGS_LIMITS.modelBytes);
    else if (key === 'input') input = readEmbeddingsInput(reader);
    else if (key === 'encoding_format') encodingFormat = readEncoding(reader, key);
    else if (key === 'dimensions') dimensions = readDimensions(reader, key);
    else if (key === 'truncate') truncate = readBoolean(reader, key);
    else if (key === 'user') passOverString(reader, key);
    else if (key === 'truncate_prompt_tokens') refuseTruncatePromptTokens(reader, key);
    else skipValue(reader, 1);
  });
  if (reader.peek() !== -1) throw reader.failure('text after the request');
  if (model === undefined || model === '') throw new MemberError('model', "'model' is missing: name the model to ask");
  if (input === undefined) throw new MemberError('input', "'input' is missing: send a text or an array of texts");
  return { model, ...input, encodingFormat: encodingFormat ?? 'float', dimensions, truncate };
}

/** Takes a null; false when something else is there. */
function takeNull(reader: JsonReader): boolean {
  if (reader.peek() !== 0x6e) return false;
  reader.word('null');
  return true;
}

function readString(reader: JsonReader, key: string, maxBytes: number): string | undefined {
  if (takeNull(reader)) return undefined;
  const start = reader.at;
  passOverString(reader, key);
  const length = reader.stringStop - reader.stringStart;
  if (length > maxBytes) throw new MemberError(key, `'${key}' has ${length} bytes, at most ${maxBytes} are taken`);
  reader.at = start;
  return reader.readString(maxBytes, key);
}

function passOverString(reader: JsonReader, key: string): void {
  if (takeNull(reader)) return;
  if (reader.peek() !== 0x22) throw wrongType(reader, key, `'${key}' must be a string`);
  reader.scanString();
}

function readEncoding(reader: JsonReader, key: string): EmbeddingEncoding | undefined {
  const value = readString(reader, key, EMBEDDINGS_LIMITS.encodingFormatBytes);
  if (value === undefined || value === 'float' || value === 'base64') return value;
  throw new MemberError(key, `'${key}' must be 'float' or 'base64', got '${printable(value)}'`);
}

function readDimensions(reader: JsonReader, key: string): number | undefined {
  if (takeNull(reader)) return undefined;
  const byte = reader.peek();
  const isNumber = byte === 0x2d || (byte >= 0x30 && byte <= 0x39);
  if (!isNumber) throw wrongType(reader, key, `'${key}' must be a whole number`);
  const { text, integer } = reader.readNumberText();
  const value = Number(text);
  if (!integer || value < 1) {
    throw new MemberError(key, `'${key}' must be a whole number of at least 1, got ${printable(text, 24)}`);
  }
  return value;
}

function readBoolean(reader: JsonReader, key: string): boolean | undefined {
  if (takeNull(reader)) return undefined;
  const byte = reader.peek();
  if (byte !== 0x74 && byte !== 0x66) throw wrongType(reader, key, `'${key}' must be true or false`);
  reader.word(byte === 0x74 ? 'true' : 'false');
  return byte === 0x74;
}

/** Ignoring it would answer with vectors of other texts than the client meant. */
function refuseTruncatePromptTokens(reader: JsonReader, key: string): void {
  if (takeNull(reader)) return;
  throw new MemberError(
    key,
    `'${key}' is not supported; texts are cut at the model's own limit unless 'truncate' is false`,
  );
}
