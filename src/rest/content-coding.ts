/**
 * Which compression a reply gets, and the compressing itself (on the thread pool of libuv, never on the main thread).
 *
 * Called by `exchange.ts`.
 */
import { promisify } from 'node:util';
import { constants, deflate, gzip } from 'node:zlib';

export type ContentCoding = 'gzip' | 'deflate';

const compressors = { gzip: promisify(gzip), deflate: promisify(deflate) };

/** Below this a reply only grows. */
const LEAST_BYTES = 128;
/** Below this a client that merely can read a coding is better off without. */
const LEAST_UNASKED_BYTES = 1024;

/**
 * The coding for a reply of `bytes`, or undefined for none. Most HTTP clients list every coding they can read with every request;
 * for tensors compression costs far more time than it saves on a fast network. So a bare list gets text compressed, while a client
 * that names one coding, or gives weights, asks for it and gets it for tensors as well.
 */
export function chooseCoding(accept: string | undefined, bytes: number, text: boolean): ContentCoding | undefined {
  if (accept === undefined || accept === '' || bytes < LEAST_BYTES) return undefined;
  const weights = new Map<string, number>();
  for (const part of accept.slice(0, 1024).split(',')) {
    const [name, ...attributes] = part.split(';');
    const weight = attributes.map((text) => /^\s*q\s*=\s*([\d.]+)\s*$/i.exec(text)?.[1]).find((q) => q !== undefined);
    weights.set(name!.trim().toLowerCase(), weight === undefined ? 1 : Number(weight));
  }
  const weightOf = (name: string): number => weights.get(name) ?? weights.get('*') ?? 0;
  const coding = weightOf('deflate') > weightOf('gzip') ? 'deflate' : 'gzip';
  if (weightOf(coding) <= 0 || weightOf(coding) < (weights.get('identity') ?? 0)) return undefined;
  const asked = weights.size === 1 || accept.includes(';');
  return asked || (text && bytes >= LEAST_UNASKED_BYTES) ? coding : undefined;
}

/** `body` compressed fast rather than small. */
export function compress(body: Uint8Array, coding: ContentCoding): Promise<Buffer> {
  return compressors[coding](body, { level: constants.Z_BEST_SPEED });
}
