/**
 * Clients of token streams: each reads one stream to its end and notes when what came.
 *
 * Started by `bench/streams.ts` as a process of its own and driven over IPC: a StreamsRequest in, a StreamsReply out. They do as little as
 * a client can: frames or events are taken apart, and of each message the text. One connection for gRPC; for server-sent events one for
 * each stream, as HTTP/1.1 needs.
 */
import { request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';

export interface StreamRequest {
  /** A framed gRPC message, or the JSON of a POST; base64. */
  readonly body: string;
  /** When to send it, in milliseconds from the start. */
  readonly atMs: number;
  /** Go away after so many messages; 0 = read to the end. */
  readonly leaveAfter: number;
}

export interface StreamsRequest {
  readonly protocol: 'grpc' | 'sse';
  readonly origin: string;
  readonly path: string;
  readonly streams: readonly StreamRequest[];
  /** Each starts when the one before has ended, whatever its time. */
  readonly oneByOne: boolean;
}

export interface StreamReply {
  /** Milliseconds from sending the request, of every message with text. */
  readonly atMs: readonly number[];
  /** Likewise of the end. */
  readonly endMs: number;
  readonly text: string;
  /** The server's own account of the time. */
  readonly serverTiming: string;
  readonly problem?: string;
}

export interface StreamsReply {
  readonly streams: readonly StreamReply[];
  readonly elapsedMs: number;
  /** On the wire, from the sockets. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** CPU time of this process. */
  readonly cpuMs: number;
}

/** What a reader of one stream collects. */
interface Reading {
  readonly sentMs: number;
  readonly atMs: number[];
  readonly texts: string[];
}

const newReading = (): Reading => ({ sentMs: performance.now(), atMs: [], texts: [] });

function note(reading: Reading, text: string): void {
  if (text === '') return;
  reading.atMs.push(performance.now() - reading.sentMs);
  reading.texts.push(text);
}

function reply(reading: Reading, serverTiming: string, problem?: string): StreamReply {
  return {
    atMs: reading.atMs,
    endMs: performance.now() - reading.sentMs,
    text: reading.texts.join(''),
    serverTiming,
    ...(problem !== undefined && { problem }),
  };
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

process.on('message', async (request: StreamsRequest) => {
  const { protocol, origin, path, streams, oneByOne } = request;
  const session = protocol === 'grpc' ? connect(origin) : undefined;
  let bytesIn = 0;
  let bytesOut = 0;
  const sockets = (socket: { bytesRead: number; bytesWritten: number }): void => {
    bytesIn += socket.bytesRead;
    bytesOut += socket.bytesWritten;
  };
  if (session) await new Promise((resolve) => session.once('remoteSettings', resolve));
  const open = session
    ? (stream: StreamRequest) => readGrpc(session, path, stream)
    : (stream: StreamRequest) => readEvents(origin, path, stream, sockets);
  const cpu = process.cpuUsage();
  const began = performance.now();
  const replies: StreamReply[] = [];
  if (oneByOne) for (const stream of streams) replies.push(await open(stream));
  else {
    const started = streams.map(async (stream) => {
      if (stream.atMs > 0) await pause(stream.atMs);
      return open(stream);
    });
    replies.push(...(await Promise.all(started)));
  }
  const elapsedMs = performance.now() - began;
  const { user, system } = process.cpuUsage(cpu);
  if (session) {
    sockets(session.socket);
    session.destroy();
  }
  process.send!({
    streams: replies,
    elapsedMs,
    bytesIn,
    bytesOut,
    cpuMs: (user + system) / 1000,
  } satisfies StreamsReply);
});
process.once('disconnect', () => process.exit(0));
process.send!('ready');

function readGrpc(
  session: ClientHttp2Session,
  path: string,
  { body, leaveAfter }: StreamRequest,
): Promise<StreamReply> {
  return new Promise((resolve) => {
    const reading = newReading();
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let timing = '';
    let status = '';
    const trailers = (headers: Record<string, unknown>): void => {
      timing = String(headers['server-timing'] ?? timing);
      if (headers['grpc-status'] !== undefined) status = `${headers['grpc-status']} ${headers['grpc-message'] ?? ''}`;
    };
    stream.on('response', trailers);
    stream.on('trailers', trailers);
    let kept: Buffer = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      let bytes = kept.length > 0 ? Buffer.concat([kept, chunk]) : chunk;
      while (bytes.length >= 5) {
        const end = 5 + bytes.readUInt32BE(1);
        if (bytes.length < end) break;
        note(reading, tokenOf(bytes.subarray(5, end)));
        bytes = bytes.subarray(end);
      }
      kept = bytes;
      if (leaveAfter > 0 && reading.atMs.length >= leaveAfter) stream.close(8);
    });
    stream.on('error', () => undefined);
    stream.once('close', () => {
      const failed = !status.startsWith('0') && leaveAfter === 0;
      resolve(reply(reading, timing, failed ? `status ${status}` : undefined));
    });
    stream.end(Buffer.from(body, 'base64'));
  });
}

/** `token` of a ModelStreamResponse: field 1, of at most 127 bytes or two bytes of length. */
function tokenOf(message: Buffer): string {
  if (message[0] !== 0x0a) return '';
  const [length, from] = message[1]! < 128 ? [message[1]!, 2] : [(message[1]! & 127) | (message[2]! << 7), 3];
  return message.toString('utf8', from, from + length);
}

function readEvents(
  origin: string,
  path: string,
  { body, leaveAfter }: StreamRequest,
  count: (socket: { bytesRead: number; bytesWritten: number }) => void,
): Promise<StreamReply> {
  return new Promise((resolve) => {
    const reading = newReading();
    const payload = Buffer.from(body, 'base64');
    const headers = { 'content-type': 'application/json', 'content-length': payload.length, te: 'trailers' };
    const outgoing = httpRequest(`${origin}${path}`, { method: 'POST', headers, agent: false }, (response) => {
      const { socket } = response;
      let kept = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const events = (kept + chunk).split('\n\n');
        kept = events.pop()!;
        for (const event of events) note(reading, textOf(event.slice('data: '.length)));
        if (leaveAfter > 0 && reading.atMs.length >= leaveAfter) outgoing.destroy();
      });
      response.on('error', () => undefined);
      response.once('close', () => {
        count(socket);
        const timing = String(response.trailers['server-timing'] ?? response.headers['server-timing'] ?? '');
        const failed = response.statusCode !== 200 && leaveAfter === 0;
        resolve(reply(reading, timing, failed ? `status ${response.statusCode} ${kept}` : undefined));
      });
    });
    outgoing.on('error', (error) => resolve(reply(reading, '', leaveAfter > 0 ? undefined : error.message)));
    outgoing.end(payload);
  });
}

/** Of Triton's generate_stream, or of OpenAI's completions and chats. */
function textOf(data: string): string {
  if (data === '[DONE]') return '';
  const event = JSON.parse(data) as {
    text_output?: string;
    choices?: { text?: string; delta?: { content?: string } }[];
  };
  const choice = event.choices?.[0];
  return event.text_output ?? choice?.text ?? choice?.delta?.content ?? '';
}
