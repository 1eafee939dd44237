/**
 * gzip as clients do it: zlib's default level, beside the event loop where the bytes are worth the way there.
 *
 * Called by both transports of the bench. Must not know what it packs.
 */
import { gunzip, gunzipSync, gzip, gzipSync } from 'node:zlib';

/** Less is packed in less time than the thread pool takes to answer. */
const INLINE_BYTES = 16_384;
/** Beyond it an answer is a bomb. */
const MAX_UNPACKED_BYTES = 1 << 30;

type Done = (error: Error | null, bytes: Buffer) => void;

export function pack(bytes: Buffer, done: Done): void {
  if (bytes.length <= INLINE_BYTES) done(null, gzipSync(bytes));
  else gzip(bytes, done);
}

/** `done` gets an error for what is no gzip. */
export function unpack(bytes: Buffer, done: Done): void {
  if (bytes.length > INLINE_BYTES) return void gunzip(bytes, { maxOutputLength: MAX_UNPACKED_BYTES }, done);
  let unpacked: Buffer;
  try {
    unpacked = gunzipSync(bytes, { maxOutputLength: MAX_UNPACKED_BYTES });
  } catch (error) {
    return void done(error as Error, bytes);
  }
  done(null, unpacked);
}
