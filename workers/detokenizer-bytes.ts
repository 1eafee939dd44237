/**
 * Bytes that come in parts, as text: what GPT-2's kind of tokens are made of.
 *
 * Called by workers/detokenizer.ts and detokenizer-steps.ts. A character whose bytes are not all there is kept back; what can't become one
 * any more is U+FFFD, one for each part that might have begun a character, as Rust's and the browsers' decoders do it.
 */

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const NO_BYTES = new Uint8Array(0);

/** The characters by which GPT-2's vocabularies write bytes. */
const byteOf: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => byte)
    .sort((a, b) => Number(!isPrintable(a)) - Number(!isPrintable(b)))
    // Those that are printable stand for themselves, the others for characters from U+0100 on.
    .map((byte, place) => [String.fromCharCode(isPrintable(byte) ? byte : 68 + place), byte]),
);

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/** The bytes of a token of such a vocabulary; those of its text where it is not written that way. */
export function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  let count = 0;
  for (const character of token) {
    const byte = byteOf.get(character);
    if (byte === undefined) return Buffer.from(token);
    bytes[count++] = byte;
  }
  return bytes.subarray(0, count);
}

/** `bytes` as text by itself; `undefined` where it ends in an incomplete character or begins with the rest of one. */
export function wholeText(bytes: Uint8Array): string | undefined {
  const first = bytes[0];
  if (first === undefined) return '';
  return (first & 0xc0) === 0x80 || incompleteBytes(bytes) > 0 ? undefined : utf8.decode(bytes);
}

export const textOfBytes = (bytes: Uint8Array): string => utf8.decode(bytes);

export class ByteText {
  #pending = NO_BYTES;

  /** `whole` is `wholeText(bytes)`, which the caller may know from before. */
  push(bytes: Uint8Array, whole: string | undefined): string {
    if (whole !== undefined && this.#pending.length === 0) return whole;
    const all = Buffer.concat([this.#pending, bytes]);
    const end = all.length - incompleteBytes(all);
    this.#pending = end === all.length ? NO_BYTES : all.slice(end);
    return utf8.decode(all.subarray(0, end));
  }

  /** Characters kept back that are none of `bytes`, were those to come next: 1 where they don't go on with what is incomplete. */
  heldBefore(bytes: Uint8Array): number {
    const [first] = bytes;
    const [lead, second] = this.#pending;
    if (lead === undefined || first === undefined) return 0;
    const goesOn = (first & 0xc0) === 0x80 && (second !== undefined || mayFollow(lead, first));
    return goesOn ? 0 : 1;
  }

  /** Nothing more comes. */
  flush(): string {
    const text = utf8.decode(this.#pending);
    this.#pending = NO_BYTES;
    return text;
  }
}

/** How many bytes at the end may be the beginning of a character that goes on. */
function incompleteBytes(bytes: Uint8Array): number {
  const { length } = bytes;
  for (let back = 1; back <= 3 && back <= length; back++) {
    const byte = bytes[length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (byte < 0xc2 || byte > 0xf4 || wanted <= back) return 0;
    return back === 1 || mayFollow(byte, bytes[length - back + 1]!) ? back : 0;
  }
  return 0;
}

/** Whether `second`, a byte of 10xxxxxx, may stand behind `lead`: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
function mayFollow(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second < 0xa0;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second < 0x90;
  return true;
}
