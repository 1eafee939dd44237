/**
 * Passing over a JSON value that nobody asked for, checking all of it.
 *
 * Called by the tensor JSON parser. Iterative, with the nesting on a small stack of its own: sixteen million brackets cost one
 * pass, and the depth is refused before it is entered.
 */
import type { JsonReader } from './json-reader.js';
import { JSON_LIMITS } from './tensor-json.js';

/** Checks and passes over the value at the reader's position; `depth` counts the arrays and objects around it. */
export function skipValue(reader: JsonReader, depth: number): void {
  const closers: number[] = [];
  do {
    const byte = reader.peek();
    if (byte === 0x5b || byte === 0x7b) {
      if (depth + closers.length >= JSON_LIMITS.depth) {
        throw reader.failure(`nesting deeper than ${JSON_LIMITS.depth}`);
      }
      reader.at++;
      // In ASCII both closing brackets stand two places behind their opening ones.
      const closer = byte + 2;
      if (reader.peek() !== closer) {
        closers.push(closer);
        if (byte === 0x7b) skipKey(reader);
        continue;
      }
      reader.at++;
    } else skipScalar(reader, byte);
    closeContainers(reader, closers);
  } while (closers.length > 0);
}

/** After a value: takes closing brackets until a comma says that another value follows, or nothing is open. */
function closeContainers(reader: JsonReader, closers: number[]): void {
  while (closers.length > 0) {
    const closer = closers[closers.length - 1]!;
    const next = reader.peek();
    if (next === 0x2c) {
      reader.at++;
      if (closer === 0x7d) skipKey(reader);
      return;
    }
    if (next !== closer) throw reader.failure(`expected ',' or '${String.fromCharCode(closer)}'`);
    reader.at++;
    closers.pop();
  }
}

function skipKey(reader: JsonReader): void {
  if (reader.peek() !== 0x22) throw reader.failure('expected a member name');
  reader.scanString();
  reader.take(0x3a, "':'");
}

function skipScalar(reader: JsonReader, byte: number): void {
  if (byte === 0x22) reader.scanString();
  else if (byte === 0x74) reader.word('true');
  else if (byte === 0x66) reader.word('false');
  else if (byte === 0x6e) reader.word('null');
  else reader.scanNumber();
}
