/**
 * The elements of one content input: where each text or picture lies in the bytes that a client sent.
 *
 * Called by workers/text.ts and workers/image.ts. Must not look into an element.
 */
import { invalid } from '#src/base/errors';
import type { ContentElements } from '#src/runtime/preprocess-messages';

/** The `count` elements of `content` as views on its bytes; throws INVALID_ARGUMENT where they are not exactly that many. */
export function elementsOf({ kind, count, data }: ContentElements<Uint8Array<ArrayBuffer>>): Uint8Array<ArrayBuffer>[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const elements: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  while (at < data.byteLength) {
    const start = at + 4;
    const end = start <= data.byteLength ? start + view.getUint32(at, true) : Number.POSITIVE_INFINITY;
    if (end > data.byteLength)
      throw invalid(`${kind} ${elements.length} is longer than what is left of the input's ${data.byteLength} bytes`);
    elements.push(data.subarray(start, end));
    at = end;
  }
  if (elements.length !== count)
    throw invalid(`the input declares ${count} elements of kind ${kind}, but its bytes hold ${elements.length}`);
  if (count === 0) throw invalid(`the input has no ${kind}: at least one is needed`);
  return elements;
}
