/**
 * REST over HTTP/1.1: undici's `Client`, one connection and one caller each, by `dispatch`: no promise and no stream per request.
 *
 * Made by the load process. Owns its connections; what a body means is the client's codecs' business.
 */
import { STATUS_CODES } from 'node:http';
import { Client, type Dispatcher } from 'undici';
import { bodyMemory, decodeInferBody } from '../client/rest-decode.js';
import { encodeInferBody, type RestEncoding } from '../client/rest-encode.js';
import { BenchError } from './bench-error.js';
import type { Asked, Call, Transport, WireBytes } from './call.js';
import { type CountedSocket, endpointOf, openSocket } from './counted-socket.js';
import { pack, unpack } from './gzip.js';
import type { LoadTarget } from './load-types.js';

/** Opens `connections`; a call goes by the connection of its index. Throws BenchError. */
export async function openH1(target: LoadTarget, asked: Asked, connections: number): Promise<Transport> {
  if (target.http === undefined) throw new BenchError('the server was given without a URL of its REST door');
  const url = new URL(target.http.url);
  const tls = url.protocol === 'https:' ? (target.http.tls ?? {}) : undefined;
  const endpoint = endpointOf(url, tls);
  const sockets = await Promise.all(Array.from({ length: connections }, () => openSocket(endpoint, 'http/1.1')));
  const path = inferPath(url, asked);
  const lanes = sockets.map((socket) => new Lane(url.origin, path, asked, socket));
  return {
    capacity: lanes.length,
    start: (call) => lanes[call.index]!.start(call),
    wireBytes: () => total(sockets),
    close: async () => {
      await Promise.all(lanes.map((lane) => lane.close()));
    },
  };
}

function inferPath({ pathname }: URL, { request: { model, version } }: Asked): string {
  const base = `${pathname.replace(/\/$/, '')}/v2/models/${encodeURIComponent(model)}`;
  return version === undefined ? `${base}/infer` : `${base}/versions/${encodeURIComponent(version)}/infer`;
}

function total(sockets: readonly CountedSocket[]): WireBytes {
  let sent = 0;
  let received = 0;
  for (const each of sockets) {
    const bytes = each.bytes();
    sent += bytes.sent;
    received += bytes.received;
  }
  return { sent, received };
}

const NO_BYTES: Buffer = Buffer.alloc(0);

/** One connection and the exchange on it; undici's handler for all of them in turn. */
class Lane implements Dispatcher.DispatchHandler {
  readonly #client: Client;
  readonly #path: string;
  readonly #encoding: RestEncoding;
  readonly #gzip: boolean;
  #call: Call | undefined;
  #status = 0;
  #headerLength: number | undefined;
  #coding: string | undefined;
  /** The body so far: one piece of memory where the length was told, else chunks. */
  #body: Buffer = NO_BYTES;
  #filled = 0;
  #chunks: Buffer[] = [];
  #isSized = false;

  constructor(origin: string, path: string, { arm }: Asked, socket: CountedSocket) {
    let isTaken = false;
    this.#client = new Client(origin, {
      connect: (_options, callback) => {
        // A second one would hide what the server did to the first, and its bytes.
        if (isTaken) return callback(new BenchError('the server closed the connection'), null);
        isTaken = true;
        // Inside the call undici would not notice that there is something to send.
        queueMicrotask(() => callback(null, socket.socket));
      },
      bodyTimeout: 0,
      headersTimeout: 0,
      // Loads take longer than undici's 4 s without a hint of the server's to close what is idle.
      keepAliveTimeout: 600_000,
    });
    this.#path = path;
    this.#encoding = arm.encoding === 'rest_json' ? 'json' : 'binary';
    this.#gzip = arm.gzip;
  }

  start(call: Call): void {
    call.begin();
    this.#call = call;
    let encoded: ReturnType<typeof encodeInferBody>;
    try {
      encoded = encodeInferBody(call.asked.request, this.#encoding);
    } catch (error) {
      return void call.fail((error as Error).message);
    }
    const { body, headers } = encoded;
    const list: string[] = [];
    for (const name in headers) list.push(name, headers[name]!);
    if (!this.#gzip) return void this.#send(call, body, list);
    list.push('content-encoding', 'gzip', 'accept-encoding', 'gzip');
    pack(body, (error, packed) => {
      if (error) call.fail(error.message);
      else this.#send(call, packed, list);
    });
  }

  #send(call: Call, body: Buffer, headers: string[]): void {
    call.requestBytes = body.length;
    call.encoded = performance.now();
    this.#client.dispatch({ path: this.#path, method: 'POST', headers, body }, this);
  }

  onRequestStart(): void {}

  /** Undici waits a turn of the event loop before it takes a used connection again. */
  onRequestSent(): void {
    this.#call!.sent = performance.now();
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    const call = this.#call!;
    if (status < 200) return;
    call.firstByte = performance.now();
    this.#status = status;
    call.serverTiming = headers['server-timing'] as string | undefined;
    const headerLength = headers['inference-header-content-length'] as string | undefined;
    this.#headerLength = headerLength === undefined ? undefined : Number(headerLength);
    this.#coding = headers['content-encoding'] as string | undefined;
    const length = headers['content-length'] as string | undefined;
    this.#isSized = length !== undefined;
    this.#filled = 0;
    this.#body = NO_BYTES;
    if (length !== undefined) call.responseBytes = Number(length);
    else this.#chunks = [];
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isSized) {
      this.#chunks.push(chunk);
      return;
    }
    if (this.#filled === 0) {
      const bytes = this.#call!.responseBytes;
      if (chunk.length === bytes) this.#body = chunk;
      else {
        // The tensors behind the JSON at an address that a typed array can begin at, unless they are packed.
        this.#body = bodyMemory(bytes, this.#coding === undefined ? this.#headerLength : 0);
        chunk.copy(this.#body);
      }
    } else chunk.copy(this.#body, this.#filled);
    this.#filled += chunk.length;
  }

  onResponseEnd(): void {
    const call = this.#call!;
    call.lastByte = performance.now();
    if (!this.#isSized) {
      this.#body = Buffer.concat(this.#chunks);
      call.responseBytes = this.#body.length;
    }
    const body = this.#body;
    this.#body = NO_BYTES;
    if (this.#coding === undefined || this.#coding === 'identity') this.#decode(call, body);
    else if (this.#coding === 'gzip') unpack(body, (error, unpacked) => this.#unpacked(call, error, unpacked));
    else call.fail(`the answer has content-encoding '${this.#coding}', which was not asked for`);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#call?.fail(error.message);
  }

  #unpacked(call: Call, error: Error | null, body: Buffer): void {
    if (error) call.fail(`the answer can't be unpacked: ${error.message}`);
    else this.#decode(call, body);
  }

  #decode(call: Call, body: Buffer): void {
    if (this.#status !== 200) return void call.fail(refusal(this.#status, body));
    let answer: ReturnType<typeof decodeInferBody>;
    try {
      answer = decodeInferBody(body, this.#headerLength);
    } catch (error) {
      return void call.fail((error as Error).message);
    }
    call.succeed(answer);
  }

  close(): Promise<void> {
    return this.#client.destroy();
  }
}

/** The server's words where it says any. */
function refusal(status: number, body: Buffer): string {
  const text = body.toString('utf8', 0, 1000);
  let words: unknown;
  try {
    words = (JSON.parse(text) as { error?: unknown }).error;
  } catch {
    words = text;
  }
  return `HTTP ${status} ${STATUS_CODES[status] ?? ''}: ${typeof words === 'string' ? words : text}`;
}
