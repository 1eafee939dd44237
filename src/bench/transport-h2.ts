/**
 * gRPC's unary call over node:http2 itself: one stream per call, four listeners, no stub and no interceptors.
 *
 * Made by the load process. Owns its sessions and the framing of messages; what a message means is the client's codecs' business.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import { decodeInferResponse } from '../client/grpc-decode.js';
import { FRAME_HEAD_BYTES, type GrpcEncoding, measureInferRequest } from '../client/grpc-encode.js';
import type { TlsOptions } from '../client/types.js';
import { BenchError } from './bench-error.js';
import type { Asked, Call, Transport, WireBytes } from './call.js';
import { bytesOf, type CountedSocket, endpointOf, openSocket } from './counted-socket.js';
import { grpcMessage } from './grpc-message.js';
import { pack, unpack } from './gzip.js';
import type { LoadTarget } from './load-types.js';

export const MODEL_INFER = '/inference.GRPCInferenceService/ModelInfer';

/** Calls per connection at a time where the load doesn't say: what servers allow at least, as HTTP/2 recommends. */
const STREAMS = 100;
/** So that no answer waits for a window of ours. */
const STREAM_WINDOW_BYTES = 16 << 20;
const SESSION_WINDOW_BYTES = 256 << 20;

const CALL = Symbol('call');
type CallStream = ClientHttp2Stream & { [CALL]?: Receiving };

/** Opens `connections`, which callers share in turns. Throws BenchError. */
export async function openH2(target: LoadTarget, asked: Asked, connections: number): Promise<Transport> {
  if (target.grpc === undefined) throw new BenchError('the server was given without the address of its gRPC door');
  const { address, tls } = target.grpc;
  const isSecure = tls !== undefined && tls !== false;
  const options: TlsOptions = tls === true || tls === undefined || tls === false ? {} : tls;
  const url = new URL(`${isSecure ? 'https' : 'http'}://${address}`);
  const endpoint = endpointOf(url, isSecure ? options : undefined);
  const sockets = await Promise.all(Array.from({ length: connections }, () => openSocket(endpoint, 'h2')));
  const sessions = await Promise.all(sockets.map((socket) => openSession(url, socket)));
  return new H2Transport(sessions, sockets, requestHeaders(url, asked), asked);
}

function openSession(url: URL, { socket }: CountedSocket): Promise<ClientHttp2Session> {
  return new Promise((resolve, reject) => {
    const session = connect(url.origin, {
      createConnection: () => socket,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
      // Past 10 MB of waiting requests Node would refuse the answers' headers: 64 callers of a megabyte each. grpc-js sets the same.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
    });
    const refuse = (why: string): void => reject(new BenchError(`no HTTP/2 at ${url.host}: ${why}`));
    session.once('error', (error) => refuse(error.message));
    // Without an error where the server closes it in order, as one does that ends.
    session.once('close', () => refuse('the server closed the connection'));
    session.once('remoteSettings', () => {
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
      // Its calls say what happened to it.
      session.on('error', ignore);
      resolve(session);
    });
  });
}

function ignore(): void {}

/** Names and values in turns: node:http2 sends such a list as it is, a tenth of a small call cheaper than an object. */
function requestHeaders({ host, protocol }: URL, { arm }: Asked): readonly string[] {
  const headers = {
    ':method': 'POST',
    ':scheme': protocol.slice(0, -1),
    ':authority': host,
    ':path': MODEL_INFER,
    te: 'trailers',
    'content-type': 'application/grpc',
    'grpc-accept-encoding': 'identity,gzip',
    ...(arm.gzip ? { 'grpc-encoding': 'gzip' } : {}),
  };
  return Object.entries(headers).flat();
}

class H2Transport implements Transport {
  readonly capacity: number;
  readonly #sessions: readonly ClientHttp2Session[];
  readonly #sockets: readonly CountedSocket[];
  readonly #headers: readonly string[];
  readonly #encoding: GrpcEncoding;
  readonly #gzip: boolean;

  constructor(
    sessions: readonly ClientHttp2Session[],
    sockets: readonly CountedSocket[],
    headers: readonly string[],
    { arm }: Asked,
  ) {
    this.capacity = sessions.length * STREAMS;
    this.#sessions = sessions;
    this.#sockets = sockets;
    this.#headers = headers;
    this.#encoding = arm.encoding === 'grpc_typed' ? 'typed' : 'raw';
    this.#gzip = arm.gzip;
  }

  start(call: Call): void {
    call.begin();
    let frame: Buffer;
    try {
      const message = measureInferRequest(call.asked.request, this.#encoding);
      frame = frameOf(call, message.byteLength);
      message.copy(frame, FRAME_HEAD_BYTES);
    } catch (error) {
      return void call.failSoon((error as Error).message);
    }
    if (!this.#gzip) return void this.#send(call, frame);
    pack(frame.subarray(FRAME_HEAD_BYTES), (error, packed) => {
      if (error) return void call.fail(error.message);
      const packedFrame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + packed.length);
      packedFrame[0] = 1;
      packedFrame.writeUInt32BE(packed.length, 1);
      packed.copy(packedFrame, FRAME_HEAD_BYTES);
      this.#send(call, packedFrame);
    });
  }

  #send(call: Call, frame: Buffer): void {
    call.requestBytes = frame.length - FRAME_HEAD_BYTES;
    call.encoded = performance.now();
    const session = this.#sessions[call.index % this.#sessions.length]!;
    if (session.destroyed || session.closed) return void call.failSoon('the server closed the connection');
    const stream: CallStream = session.request(this.#headers);
    stream[CALL] = new Receiving(call);
    stream.on('response', onResponse);
    stream.on('data', onData);
    stream.on('trailers', onTrailers);
    stream.on('error', onError);
    stream.on('close', onClose);
    stream.end(frame);
    call.sent = performance.now();
  }

  wireBytes(): WireBytes {
    return bytesOf(this.#sockets);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
  }
}

/**
 * The caller's frame for a message of `bytes`, with its head. Answered calls are sent, so their memory serves again: fresh memory for
 * each would be a third of the client's CPU at 100 KB, most of it in the collector.
 */
function frameOf(call: Call, bytes: number): Buffer {
  const length = FRAME_HEAD_BYTES + bytes;
  if (call.sendMemory.length !== length) call.sendMemory = Buffer.allocUnsafeSlow(length);
  const frame = call.sendMemory;
  frame[0] = 0;
  frame.writeUInt32BE(bytes, 1);
  return frame;
}

const NO_BYTES: Buffer = Buffer.alloc(0);

/** What has come of one answer. */
class Receiving {
  readonly #call: Call;
  #encoding: string | undefined;
  #status: string | undefined;
  #details = '';
  /** The frame: head and message. */
  #bytes: Buffer = NO_BYTES;
  #filled = 0;
  #error: string | undefined;
  #isDone = false;

  constructor(call: Call) {
    this.#call = call;
  }

  headers(headers: IncomingHttpHeaders): void {
    this.#call.firstByte = performance.now();
    this.#encoding = headers['grpc-encoding'] as string | undefined;
    if (Number(headers[':status']) !== 200) this.#error = `HTTP ${headers[':status']}: no gRPC there`;
    if (headers['grpc-status'] !== undefined) this.trailers(headers);
  }

  trailers(headers: IncomingHttpHeaders): void {
    this.#status = headers['grpc-status'] as string | undefined;
    this.#details = (headers['grpc-message'] as string | undefined) ?? '';
    this.#call.serverTiming = headers['server-timing'] as string | undefined;
    // The stream closes two turns of the event loop later; a caller has its answer now.
    if (this.#status === '0' && this.#error === undefined && this.#filled > 0 && this.#filled === this.#bytes.length) {
      this.#end(constants.NGHTTP2_NO_ERROR);
    }
  }

  data(chunk: Buffer): void {
    if (this.#filled === 0) {
      const bytes = chunk.length >= FRAME_HEAD_BYTES ? FRAME_HEAD_BYTES + chunk.readUInt32BE(1) : 0;
      if (bytes <= chunk.length) this.#bytes = chunk;
      else {
        const call = this.#call;
        if (call.receiveMemory.length !== bytes) call.receiveMemory = endAligned(bytes);
        this.#bytes = call.receiveMemory;
        chunk.copy(this.#bytes);
      }
    } else if (this.#filled + chunk.length <= this.#bytes.length) chunk.copy(this.#bytes, this.#filled);
    else this.#bytes = Buffer.concat([this.#bytes.subarray(0, this.#filled), chunk]);
    this.#filled += chunk.length;
  }

  error(message: string): void {
    this.#error = message;
  }

  /** The stream is closed: nothing more comes. */
  closed(resetCode: number): void {
    if (!this.#isDone) this.#end(resetCode);
  }

  #end(resetCode: number): void {
    const call = this.#call;
    this.#isDone = true;
    call.lastByte = performance.now();
    if (this.#status !== undefined && this.#status !== '0') {
      return void call.fail(`gRPC status ${this.#status}: ${grpcMessage(this.#details)}`);
    }
    if (this.#error !== undefined) return void call.fail(this.#error);
    if (this.#status === undefined)
      return void call.fail(`the answer ended without a status (HTTP/2 code ${resetCode})`);
    const frame = this.#bytes;
    if (this.#filled !== frame.length || frame.length < FRAME_HEAD_BYTES) {
      return void call.fail(`the answer holds ${this.#filled} of ${frame.length} bytes`);
    }
    call.responseBytes = frame.length - FRAME_HEAD_BYTES;
    const message = frame.subarray(FRAME_HEAD_BYTES);
    if (frame[0] === 0) return void decode(call, message);
    if (this.#encoding !== 'gzip')
      return void call.fail(`the answer has grpc-encoding '${this.#encoding}', asked for gzip`);
    unpack(message, (error, unpacked) => {
      if (error) call.fail(`the answer can't be unpacked: ${error.message}`);
      else decode(call, unpacked);
    });
  }
}

/** Memory that ends at a multiple of 8: raw contents come last, and the last one then begins where a typed array can. */
function endAligned(bytes: number): Buffer {
  const before = (8 - (bytes % 8)) % 8;
  return Buffer.allocUnsafeSlow(before + bytes).subarray(before);
}

function decode(call: Call, message: Buffer): void {
  let answer: ReturnType<typeof decodeInferResponse>;
  try {
    answer = decodeInferResponse(message);
  } catch (error) {
    return void call.fail((error as Error).message);
  }
  call.succeed(answer);
}

function onResponse(this: CallStream, headers: IncomingHttpHeaders): void {
  this[CALL]!.headers(headers);
}

function onData(this: CallStream, chunk: Buffer): void {
  this[CALL]!.data(chunk);
}

function onTrailers(this: CallStream, headers: IncomingHttpHeaders): void {
  this[CALL]!.trailers(headers);
}

function onError(this: CallStream, error: Error): void {
  this[CALL]!.error(error.message);
}

function onClose(this: CallStream): void {
  this[CALL]!.closed(this.rstCode ?? constants.NGHTTP2_NO_ERROR);
}
