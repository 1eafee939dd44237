/**
 * Finds the top-level members of a JSON object in its bytes without parsing them: a tokenizer.json is mostly vocabulary, up to tens of
 * megabytes, and parsing that on the main thread would hold up every request.
 *
 * Called by huggingface-tokenizer.ts. Gives the event loop a turn every megabyte. Checks no more of the JSON than it needs to find
 * its way; the preprocess workers parse the whole file.
 */
import { setImmediate } from 'node:timers/promises';
import { invalid } from '../base/errors.js';

/** Bytes looked at between two turns of the event loop; about 3 ms. */
const SLICE_BYTES = 1 << 20;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN = [0x5b, 0x7b];
const CLOSE = [0x5d, 0x7d];

/** Bytes of each member's value by name. Throws INVALID_ARGUMENT for bytes that are no JSON object. */
export async function jsonSections(subject: string, bytes: Uint8Array): Promise<ReadonlyMap<string, Uint8Array>> {
  const sections = new Map<string, Uint8Array>();
  let depth = 0;
  /** Where the current string began; -1 outside of strings. */
  let string = -1;
  let name: string | undefined;
  let valueAt = -1;
  let lastString = '';
  const close = (end: number): void => {
    if (name !== undefined) sections.set(name, bytes.subarray(valueAt, end));
    name = undefined;
  };
  for (let at = 0; at < bytes.length; at++) {
    if (at % SLICE_BYTES === SLICE_BYTES - 1) await setImmediate();
    const byte = bytes[at]!;
    if (string >= 0) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) {
        if (depth === 1 && name === undefined) lastString = new TextDecoder().decode(bytes.subarray(string + 1, at));
        string = -1;
      }
    } else if (byte === QUOTE) string = at;
    else if (OPEN[0] === byte || OPEN[1] === byte) depth++;
    else if (CLOSE[0] === byte || CLOSE[1] === byte) {
      if (depth === 1) close(at);
      depth--;
    } else if (depth === 1) {
      if (byte === COLON && name === undefined) {
        name = lastString;
        valueAt = at + 1;
      } else if (byte === COMMA) close(at);
    }
  }
  const first = bytes.find((byte) => byte > 0x20 && byte < 0x80);
  if (depth !== 0 || string >= 0 || first !== OPEN[1])
    throw invalid(`${subject} is not valid JSON: it is no whole object`);
  return sections;
}
