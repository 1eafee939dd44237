/**
 * Inflates compressed request messages within bounds: size per message, bytes over all calls, and messages at a time.
 *
 * Called by `unary.ts`. grpc-js would inflate every message at once, each up to the receive limit: thirty small bombs took it
 * 2.2 GB and 30 s of stalls. Must not know what the messages are.
 */
import { createGunzip, createInflate, type Gunzip, gunzipSync, type Inflate, inflateSync } from 'node:zlib';
import { ServeError } from '../base/errors.js';
import type { Encoding } from './gated-call.js';

export interface InflateJob {
  readonly bytes: Buffer;
  readonly encoding: Exclude<Encoding, 'identity'>;
  /** Largest message accepted. */
  readonly maxBytes: number;
  /** Takes more of the byte budget; false when it is not there. Who gives it back is the job's business. */
  reserve(bytes: number): boolean;
  /** False once nobody waits for the result. */
  isWanted(): boolean;
  done(result: Buffer | ServeError): void;
}

/** Messages inflated side by side; more would only fight for zlib's threads. */
const SIDE_BY_SIDE = 2;
/** What is inflated on the spot: for small messages a stream costs more than the work. */
const SYNC_INPUT_MAX = 16 * 1024;
const SYNC_OUTPUT_MAX = 64 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** Head and trailer of an empty gzip message. */
const GZIP_MIN_BYTES = 18;
const DEFLATE_RATIO_MAX = 1032;

const FAILED = 'failed to decompress message';

/** A queue of messages to inflate; one per server. */
export class Inflater {
  readonly #waiting: InflateJob[] = [];
  #running = 0;

  add(job: InflateJob): void {
    const small = inflateSmall(job);
    if (small !== undefined) {
      job.done(small);
      return;
    }
    this.#waiting.push(job);
    this.#next();
  }

  #next(): void {
    while (this.#running < SIDE_BY_SIDE) {
      const job = this.#waiting.shift();
      if (job === undefined) return;
      if (!job.isWanted()) continue;
      this.#running++;
      inflateStreaming(job, (result) => {
        this.#running--;
        job.done(result);
        this.#next();
      });
    }
  }
}

/** Result of a message that is small on both sides; undefined when it must be streamed. */
function inflateSmall(job: InflateJob): Buffer | ServeError | undefined {
  if (job.bytes.length > SYNC_INPUT_MAX) return undefined;
  const inflate = job.encoding === 'gzip' ? gunzipSync : inflateSync;
  try {
    // With `info` zlib returns the engine too, which knows how much of the input it used; the types do not say so.
    const options = { maxOutputLength: Math.min(SYNC_OUTPUT_MAX, job.maxBytes), info: true };
    const result = inflate(job.bytes, options) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
    if (result.engine.bytesWritten !== job.bytes.length) return new ServeError('INTERNAL', FAILED);
    return job.reserve(result.buffer.length) ? result.buffer : overBudget(result.buffer.length);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    return new ServeError('INTERNAL', FAILED);
  }
}

function inflateStreaming(job: InflateJob, settle: (result: Buffer | ServeError) => void): void {
  const options = { chunkSize: CHUNK_BYTES };
  const engine: Gunzip | Inflate = job.encoding === 'gzip' ? createGunzip(options) : createInflate(options);
  let output = Buffer.alloc(0);
  let total = 0;
  let settled = false;
  const finish = (result: Buffer | ServeError): void => {
    if (settled) return;
    settled = true;
    engine.destroy();
    settle(result);
  };
  /** Makes room for `bytes` in all; false when the budget has none. */
  const grow = (bytes: number): boolean => {
    const capacity = Math.min(Math.max(bytes, 2 * output.length, CHUNK_BYTES), job.maxBytes);
    if (!job.reserve(capacity - output.length)) return false;
    const larger = Buffer.allocUnsafeSlow(capacity);
    output.copy(larger, 0, 0, total);
    output = larger;
    return true;
  };
  const expected = expectedBytes(job);
  if (!grow(expected)) {
    finish(overBudget(expected));
    return;
  }
  engine.on('error', () => finish(new ServeError('INTERNAL', FAILED)));
  engine.on('data', (part: Buffer) => {
    if (settled) return;
    const next = total + part.length;
    if (!job.isWanted()) finish(new ServeError('CANCELLED', 'the caller has left'));
    else if (next > job.maxBytes) finish(overLimit(job.maxBytes));
    else if (next > output.length && !grow(next)) finish(overBudget(next));
    else total += part.copy(output, total);
  });
  engine.on('end', () => {
    if (engine.bytesWritten !== job.bytes.length) finish(new ServeError('INTERNAL', FAILED));
    else finish(output.subarray(0, total));
  });
  engine.end(job.bytes);
}

/**
 * What the message will come to: gzip ends with the size of its content. A client may lie, so it is only a hint for memory, and never
 * more than deflate can make of so many bytes.
 */
function expectedBytes({ bytes, encoding, maxBytes }: InflateJob): number {
  if (encoding !== 'gzip' || bytes.length < GZIP_MIN_BYTES) return 0;
  return Math.min(bytes.readUInt32LE(bytes.length - 4), bytes.length * DEFLATE_RATIO_MAX, maxBytes);
}

function overLimit(maxBytes: number): ServeError {
  return new ServeError(
    'RESOURCE_EXHAUSTED',
    `Received message that decompresses to a size larger than ${maxBytes} bytes`,
  );
}

function overBudget(bytes: number): ServeError {
  return new ServeError('RESOURCE_EXHAUSTED', `request of ${bytes} bytes would pass the limit of bytes in flight`);
}
