/**
 * Request bodies: collected from the raw stream into one buffer, inflated on the way, within the size limit and the byte budget.
 *
 * Called by the routes. Reserves before it keeps: at once when the length is announced, step by step when it is not.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { createGunzip, createInflate } from 'node:zlib';
import { invalid } from '../base/errors.js';
import type { MessagePool } from '../base/message-pool.js';
import type { Reservation } from './reservation.js';
import { bodyTooLarge, HttpError } from './status.js';

/** The exchange, as far as it matters here: what is read is counted in it. */
export interface BodyOwner {
  readonly request: IncomingMessage;
  requestBytes: number;
}

export interface BodyOptions {
  /** Bound on the body, after inflating. */
  readonly maxInputSize: number;
  readonly reservation: Reservation;
  /** What a client can do whose body is larger; none: the bound is the server's. */
  readonly advice?: string | undefined;
  /** Where a body of known length gets its memory; the reader gives it back. None: the body may be moved to another thread. */
  readonly memory?: MessagePool | undefined;
}

/** Pieces that a body of unknown length may come in: as many one-byte chunks as a client likes would cost more than their bytes. */
const MAX_PIECES = 65_536;
/** Step in which a body of unknown length reserves. */
const GROWTH_BYTES = 65_536;

/** The whole body. Rejects with ServeError or HttpError; with CANCELLED's meaning never: the caller sees the connection close. */
export function readBody(owner: BodyOwner, options: BodyOptions): Promise<Buffer<ArrayBuffer>> {
  const { request } = owner;
  const announced = request.headers['content-length'];
  const length = announced === undefined ? undefined : Number(announced);
  if (length !== undefined && length > options.maxInputSize) {
    return Promise.reject(bodyTooLarge(length, options.maxInputSize, options.advice));
  }
  try {
    const inflate = inflater(request.headers['content-encoding']);
    if (inflate !== undefined) return collectInflated(owner, inflate, options);
    if (length === undefined) return collectUnknown(owner, request, options);
    options.reservation.resize(length);
    return collectKnown(owner, options.memory?.take(length) ?? ownMemory(length));
  } catch (error) {
    return Promise.reject(error);
  }
}

function inflater(encoding: string | undefined): ReturnType<typeof createGunzip> | undefined {
  const name = encoding?.trim().toLowerCase();
  if (name === undefined || name === '' || name === 'identity') return undefined;
  if (name === 'gzip' || name === 'x-gzip') return createGunzip({ chunkSize: GROWTH_BYTES });
  if (name === 'deflate') return createInflate({ chunkSize: GROWTH_BYTES });
  throw new HttpError(501, 'Unsupported compression type', { 'accept-encoding': 'gzip, deflate' });
}

/** Large bodies get memory of their own, which can be moved to another thread. */
function ownMemory(length: number): Buffer<ArrayBuffer> {
  return length < 4096 ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length);
}

/** Fills `body` as the parts arrive. */
function collectKnown(owner: BodyOwner, body: Buffer<ArrayBuffer>): Promise<Buffer<ArrayBuffer>> {
  const { request } = owner;
  return new Promise((resolve, reject) => {
    let at = 0;
    request.on('data', (chunk: Buffer) => {
      at += chunk.copy(body, at);
      owner.requestBytes = at;
    });
    request.on('end', () => resolve(body));
    request.on('error', () => reject(connectionLost()));
  });
}

function collectInflated(
  owner: BodyOwner,
  inflate: ReturnType<typeof createGunzip>,
  options: BodyOptions,
): Promise<Buffer<ArrayBuffer>> {
  const { request } = owner;
  request.on('error', () => inflate.destroy(connectionLost()));
  request.on('data', (chunk: Buffer) => {
    owner.requestBytes += chunk.length;
  });
  request.pipe(inflate);
  return collectUnknown(owner, inflate, options);
}

function collectUnknown(owner: BodyOwner, source: Readable, options: BodyOptions): Promise<Buffer<ArrayBuffer>> {
  const { request } = owner;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let reserved = 0;
    let failed = false;
    const fail = (error: unknown): void => {
      failed = true;
      chunks.length = 0;
      if (source !== request) {
        request.unpipe();
        source.destroy();
      }
      // What still comes is read and dropped, so that the reply can be.
      request.resume();
      reject(error);
    };
    const reserve = (): void => {
      if (chunks.length === MAX_PIECES) throw invalid(`request body comes in more than ${MAX_PIECES} chunks`);
      if (size > options.maxInputSize) {
        throw bodyTooLarge(`more than ${options.maxInputSize}`, options.maxInputSize, options.advice);
      }
      if (size <= reserved) return;
      reserved = Math.max(size, Math.min(2 * reserved, options.maxInputSize), GROWTH_BYTES);
      options.reservation.resize(reserved);
    };
    source.on('data', (chunk: Buffer) => {
      if (source === request) owner.requestBytes += chunk.length;
      if (failed) return;
      size += chunk.length;
      try {
        reserve();
        chunks.push(chunk);
      } catch (error) {
        fail(error);
      }
    });
    source.on('end', () => {
      if (failed) return;
      options.reservation.tryResize(size);
      resolve(joined(chunks, size));
    });
    source.on('error', () => {
      fail(source === request ? connectionLost() : invalid('request body is not valid in its content encoding'));
    });
  });
}

function joined(chunks: Buffer[], size: number): Buffer<ArrayBuffer> {
  const body = ownMemory(size);
  let at = 0;
  for (const chunk of chunks) at += chunk.copy(body, at);
  return body;
}

function connectionLost(): HttpError {
  return new HttpError(499, 'connection closed before the request was complete');
}
