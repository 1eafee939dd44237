/**
 * JSON of free form as plain values: conversations and other requests of which parts are handed on as they came.
 *
 * Called by `rest/` for small bodies and by the JSON worker for large ones. The text is checked byte by byte first (UTF-8, depth, number
 * of values), so what JSON.parse makes of it is bounded before it exists. Of duplicate members the last counts.
 */
import { invalid } from './errors.js';
import { createJsonReader } from './json-reader.js';
import { skipValue } from './json-skip.js';
import type { JsonObject } from './tensor-json.js';

/** Values of all kinds in one document: a prompt of as many tokens as models take, and not a heap full of empty arrays. */
export const MAX_DOCUMENT_VALUES = 262_144;

/** The object in `body`; throws INVALID_ARGUMENT for anything else. */
export function parseJsonObject(body: Uint8Array): JsonObject {
  const value = parseJsonDocument(body);
  if (!isJsonObject(value)) throw invalid('failed to parse the request JSON buffer: expected an object');
  return value;
}

/** The value in `body`; throws INVALID_ARGUMENT for what is no JSON, is nested too deep or holds too many values. */
export function parseJsonDocument(body: Uint8Array): unknown {
  if (body.length === 0) throw invalid('failed to parse the request JSON buffer: the body is empty');
  const reader = createJsonReader(body);
  skipValue(reader, 0);
  if (reader.peek() !== -1) throw reader.failure('text after the document');
  if (countValues(reader.bytes) > MAX_DOCUMENT_VALUES) {
    throw invalid(`the request has more than ${MAX_DOCUMENT_VALUES} JSON values`);
  }
  try {
    return JSON.parse(reader.bytes.toString('utf8'));
  } catch {
    // All else has been checked.
    throw invalid('failed to parse the request JSON buffer: NaN and Infinity are no JSON');
  }
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** At least as many as there are: commas and opening brackets outside of strings, in JSON that is known to be right. */
function countValues(bytes: Buffer): number {
  let count = 1;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === 0x22) at = stringEnd(bytes, at + 1);
    else if (byte === 0x2c || byte === 0x5b || byte === 0x7b) count++;
  }
  return count;
}

function stringEnd(bytes: Buffer, from: number): number {
  let at = from;
  while (bytes[at] !== 0x22) at += bytes[at] === 0x5c ? 2 : 1;
  return at;
}
