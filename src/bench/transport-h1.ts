/**
 * REST over HTTP/1.1: undici's `Client`, one connection each, by `dispatch`: no promise and no stream per request.
 *
 * Made by the load process. Owns its connections; what a body means is the client's codecs' business.
 */
import { STATUS_CODES } from 'node:http';
import { Client, type Dispatcher } from 'undici';
import { bodyMemory, decodeInferBody } from '../client/rest-decode.js';
import { encodeInferBody, type RestEncoding } from '../client/rest-encode.js';
import { BenchError } from './bench-error.js';
import type { Asked, Call, Transport, WireBytes } from './call.js';
import { bytesOf, type CountedSocket, type Endpoint, endpointOf, openSocket } from './counted-socket.js';
import { pack, unpack } from './gzip.js';
import type { LoadTarget } from './load-types.js';

/** Opens `connections`; calls beyond wait for a free one. Throws BenchError. */
export async function openH1(target: LoadTarget, asked: Asked, connections: number): Promise<Transport> {
  if (target.http === undefined) throw new BenchError('the server was given without a URL of its REST door');
  const url = new URL(target.http.url);
  const tls = url.protocol === 'https:' ? (target.http.tls ?? {}) : undefined;
  const endpoint = endpointOf(url, tls);
  const sockets = await Promise.all(Array.from({ length: connections }, () => openSocket(endpoint, 'http/1.1')));
  return new H1Transport(url, endpoint, asked, sockets);
}

/** An encoded request that waits for a connection. */
interface Waiting {
  readonly call: Call;
  readonly body: Buffer;
  readonly headers: string[];
}

class H1Transport implements Transport {
  readonly capacity: number;
  readonly #encoding: RestEncoding;
  readonly #gzip: boolean;
  readonly #lanes: readonly Lane[];
  readonly #sockets: CountedSocket[];
  readonly #free: Lane[];
  readonly #waiting: Waiting[] = [];

  constructor(url: URL, endpoint: Endpoint, asked: Asked, sockets: readonly CountedSocket[]) {
    const { arm } = asked;
    const path = inferPath(url, asked);
    this.capacity = sockets.length;
    this.#encoding = arm.encoding === 'rest_json' ? 'json' : 'binary';
    this.#gzip = arm.gzip;
    this.#sockets = [...sockets];
    this.#lanes = sockets.map((opened) => {
      const connector = this.#connector(opened, endpoint);
      return new Lane(url.origin, path, connector, (lane) => this.#release(lane));
    });
    this.#free = [...this.#lanes];
  }

  /** Gives undici the connection that is open; a new one when the server has closed that. */
  #connector(opened: CountedSocket, endpoint: Endpoint): Connector {
    let first: CountedSocket | undefined = opened;
    return (_options, callback) => {
      const socket = first === undefined ? openSocket(endpoint, 'http/1.1') : Promise.resolve(first);
      if (first === undefined) void socket.then((again) => this.#sockets.push(again), ignore);
      first = undefined;
      // Never inside this call: undici would not notice that there is something to send.
      socket.then(
        (open) => callback(null, open.socket),
        (error: Error) => callback(error, null),
      );
    };
  }

  start(call: Call): void {
    call.begin();
    let encoded: ReturnType<typeof encodeInferBody>;
    try {
      encoded = encodeInferBody(call.asked.request, this.#encoding);
    } catch (error) {
      return void call.failSoon((error as Error).message);
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
    const lane = this.#free.pop();
    if (lane === undefined) this.#waiting.push({ call, body, headers });
    else lane.send(call, body, headers);
  }

  #release(lane: Lane): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(lane);
    else lane.send(next.call, next.body, next.headers);
  }

  wireBytes(): WireBytes {
    return bytesOf(this.#sockets);
  }

  async close(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }
}

type Connector = Extract<NonNullable<Client.Options['connect']>, (...args: never[]) => unknown>;

function ignore(): void {}

function inferPath({ pathname }: URL, { request: { model, version } }: Asked): string {
  const base = `${pathname.replace(/\/$/, '')}/v2/models/${encodeURIComponent(model)}`;
  return version === undefined ? `${base}/infer` : `${base}/versions/${encodeURIComponent(version)}/infer`;
}

const NO_BYTES: Buffer = Buffer.alloc(0);

/** One connection and the exchange on it; undici's handler for all of them in turn. */
class Lane implements Dispatcher.DispatchHandler {
  readonly #client: Client;
  readonly #path: string;
  readonly #release: (lane: Lane) => void;
  #call: Call | undefined;
  #status = 0;
  #headerLength: number | undefined;
  #coding: string | undefined;
  /** The body so far: one piece of memory where the length was told, else chunks. */
  #body: Buffer = NO_BYTES;
  #memory: Buffer = NO_BYTES;
  #memoryHeader = 0;
  #filled = 0;
  #chunks: Buffer[] = [];
  #isSized = false;

  constructor(origin: string, path: string, connect: Connector, release: (lane: Lane) => void) {
    this.#client = new Client(origin, {
      connect,
      bodyTimeout: 0,
      headersTimeout: 0,
      // Loads take longer than undici's 4 s without a hint of the server's to close what is idle.
      keepAliveTimeout: 600_000,
    });
    this.#path = path;
    this.#release = release;
  }

  send(call: Call, body: Buffer, headers: string[]): void {
    this.#call = call;
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
        // Lengths hardly change from answer to answer, so the memory of the last one serves again.
        const headerLength = this.#coding === undefined ? (this.#headerLength ?? 0) : 0;
        if (this.#memory.length !== bytes || this.#memoryHeader !== headerLength) {
          this.#memory = bodyMemory(bytes, headerLength);
          this.#memoryHeader = headerLength;
        }
        this.#body = this.#memory;
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
    const answer = { status: this.#status, headerLength: this.#headerLength, body: this.#body };
    const coding = this.#coding;
    this.#body = NO_BYTES;
    this.#release(this);
    if (coding === undefined || coding === 'identity') decode(call, answer);
    else if (coding !== 'gzip') call.fail(`the answer has content-encoding '${coding}', which was not asked for`);
    else {
      unpack(answer.body, (error, body) => {
        if (error) call.fail(`the answer can't be unpacked: ${error.message}`);
        else decode(call, { ...answer, body });
      });
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const call = this.#call!;
    // Undici is about to empty its queue: a request that came now would be among those that it gives up.
    setImmediate(() => {
      this.#release(this);
      call.fail(error.message);
    });
  }

  close(): Promise<void> {
    return this.#client.destroy();
  }
}

interface Answer {
  readonly status: number;
  readonly headerLength: number | undefined;
  readonly body: Buffer;
}

function decode(call: Call, { status, headerLength, body }: Answer): void {
  if (status !== 200) return void call.fail(refusal(status, body));
  let answer: ReturnType<typeof decodeInferBody>;
  try {
    answer = decodeInferBody(body, headerLength);
  } catch (error) {
    return void call.fail((error as Error).message);
  }
  call.succeed(answer);
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
