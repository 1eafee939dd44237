/**
 * BYTES elements to and from the JavaScript strings that ONNX Runtime's string tensors are made of.
 *
 * Called by workers/session-tensors.ts. ONNX Runtime's JavaScript API takes UTF-8 only: the engine has refused anything else.
 */
import { bytesElementLength } from '#src/runtime/tensor';

/** The `count` elements in `bytes` (raw layout, validated) as strings. */
export function decodeStrings(bytes: Uint8Array, count: number): string[] {
  // A Buffer over shared memory decodes in place; TextDecoder refuses shared memory.
  const text = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  const strings = new Array<string>(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const start = at + 4;
    at = start + bytesElementLength(bytes, at);
    strings[i] = text.toString('utf8', start, at);
  }
  return strings;
}

/** `strings` in raw layout: each after its length as a little-endian uint32. */
export function encodeStrings(strings: readonly string[]): Uint8Array<ArrayBuffer> {
  let byteLength = 0;
  for (const text of strings) byteLength += 4 + Buffer.byteLength(text);
  const bytes = Buffer.from(new ArrayBuffer(byteLength));
  let at = 0;
  for (const text of strings) {
    const written = bytes.write(text, at + 4);
    bytes.writeUInt32LE(written, at);
    at += 4 + written;
  }
  return bytes;
}
