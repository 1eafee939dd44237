/**
 * The process that reads token streams: asked for one way at a time, it answers with times, bytes, CPU and the text.
 *
 * Started by `streams.ts` and driven over IPC: a StreamTask in, a StreamSample out. Its readers do as little as a client can: frames or
 * events are taken apart, and of each the text. One connection for each protocol, opened by the first task and kept, as clients do.
 */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { Socket } from 'node:net';
import { SilenceError } from './bench-error.js';
import { grpcMessage } from './grpc-message.js';
import type { StreamResult } from './results.js';
import {
  completionBody,
  type Generation,
  generateBody,
  jsonText,
  smallRequest,
  smallText,
  smallToken,
  tritonRequest,
  tritonToken,
} from './stream-messages.js';

export interface StreamTask {
  readonly way: StreamResult['way'];
  /** `http://host:port` of the way's protocol. */
  readonly origin: string;
  /** Whose gRPC stream: `inference.v1`'s, or Triton's ModelStreamInfer. */
  readonly contract: 'inference.v1' | 'triton';
  readonly generation: Generation;
  /** So many one after another. */
  readonly runs: number;
  /** The longest wait for something to come. */
  readonly silenceMs: number;
}

export interface StreamRun {
  /** From sending the request, of every message with text. */
  readonly atMs: readonly number[];
  readonly endMs: number;
  readonly decodeMs: number;
  readonly text: string;
}

export interface StreamSample {
  readonly runs: readonly StreamRun[];
  /** Of all runs together. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly cpuUs: number;
  readonly problem?: string;
  /** The problem is that nothing came. */
  readonly isSilence?: boolean;
}

/** Collects what one run brings. */
class Reading {
  readonly began = performance.now();
  readonly atMs: number[] = [];
  text = '';
  decodeMs = 0;

  /** Takes a message apart; empty texts are no arrivals. */
  take<Message>(message: Message, textOf: (message: Message) => string): void {
    const began = performance.now();
    const text = textOf(message);
    const now = performance.now();
    this.decodeMs += now - began;
    if (text === '') return;
    this.atMs.push(now - this.began);
    this.text += text;
  }

  end(): StreamRun {
    const { atMs, decodeMs, text, began } = this;
    if (text === '') throw new Error('the answer holds no text');
    return { atMs, endMs: performance.now() - began, decodeMs, text };
  }
}

let session: ClientHttp2Session | undefined;
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
let httpSocket: Socket | undefined;

async function run(task: StreamTask): Promise<StreamRun> {
  const { way, origin, contract, generation, silenceMs } = task;
  const grpc = (method: string, frame: Buffer, textOf: (message: Buffer) => string): Promise<void> =>
    callGrpc(origin, method, frame, silenceMs, (message) => reading.take(message, textOf));
  const reading = new Reading();
  const model = `/v2/models/${encodeURIComponent(generation.model)}${generation.version === '' ? '' : `/versions/${encodeURIComponent(generation.version)}`}`;
  switch (way) {
    case 'grpc_stream':
      await (contract === 'triton'
        ? grpc('/inference.GRPCInferenceService/ModelStreamInfer', tritonRequest(generation), tritonToken)
        : grpc('/inference.v1.InferenceService/StreamingModelInfer', smallRequest(generation), smallToken));
      return reading.end();
    case 'sse':
      return readEvents(`${origin}${model}/generate_stream`, generateBody(generation), silenceMs, reading);
    case 'sse_openai':
      return readEvents(`${origin}/v1/completions`, completionBody(generation), silenceMs, reading);
    case 'request_per_token_grpc':
      return perToken(generation, reading, (one) =>
        grpc('/inference.v1.InferenceService/ModelInfer', smallRequest(one), smallText),
      );
    case 'request_per_token_rest':
      return perToken(generation, reading, async (one) => {
        const response = await post(`${origin}${model}/generate`, generateBody(one), silenceMs);
        let body = '';
        for await (const chunk of response) body += chunk;
        if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${body.slice(0, 300)}`);
        reading.take(body, jsonText);
      });
  }
}

/** The prompt and all text so far, one token more each time. */
async function perToken(
  generation: Generation,
  reading: Reading,
  ask: (generation: Generation) => Promise<void>,
): Promise<StreamRun> {
  for (let token = 0; token < generation.tokens; token++) {
    await ask({ ...generation, text: generation.text + reading.text, tokens: 1 });
  }
  return reading.end();
}

/** Its errors reach the calls that are on it; one that comes when none is must not end the process. */
function openSession(origin: string): ClientHttp2Session {
  const opened = connect(origin);
  opened.on('error', () => undefined);
  opened.once('close', () => (session = undefined));
  return opened;
}

/** One call on the session; resolves at its status OK. */
function callGrpc(
  origin: string,
  path: string,
  frame: Buffer,
  silenceMs: number,
  onMessage: (message: Buffer) => void,
): Promise<void> {
  const opened = (session ??= openSession(origin));
  return new Promise((resolve, reject) => {
    opened.once('error', reject);
    const stream = opened.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.setTimeout(silenceMs, () => stream.destroy(silence(silenceMs)));
    let status: string | undefined;
    let words = '';
    const takeStatus = (headers: Record<string, unknown>): void => {
      if (headers['grpc-status'] === undefined) return;
      status = String(headers['grpc-status']);
      words = grpcMessage(String(headers['grpc-message'] ?? ''));
    };
    stream.on('response', takeStatus);
    stream.on('trailers', takeStatus);
    let kept: Buffer = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      let bytes = kept.length > 0 ? Buffer.concat([kept, chunk]) : chunk;
      while (bytes.length >= 5) {
        const end = 5 + bytes.readUInt32BE(1);
        if (bytes.length < end) break;
        try {
          onMessage(bytes.subarray(5, end));
        } catch (error) {
          reject(error);
          stream.close(8);
          return;
        }
        bytes = bytes.subarray(end);
      }
      kept = bytes;
    });
    stream.once('error', reject);
    stream.once('close', () => {
      opened.off('error', reject);
      if (status === '0') resolve();
      else if (status === undefined) reject(new Error('the answer ended without a gRPC status'));
      else reject(new Error(`gRPC status ${status}: ${words}`));
    });
    stream.end(frame);
  });
}

async function readEvents(url: string, body: Buffer, silenceMs: number, reading: Reading): Promise<StreamRun> {
  const response = await post(url, body, silenceMs);
  let kept = '';
  for await (const chunk of response) {
    const events = (kept + chunk).split('\n\n');
    kept = events.pop()!;
    for (const event of events) if (event.startsWith('data: ')) reading.take(event.slice('data: '.length), jsonText);
  }
  if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}: ${kept.slice(0, 300)}`);
  return reading.end();
}

function post(url: string, body: Buffer, silenceMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let answer: IncomingMessage | undefined;
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    const outgoing = httpRequest(url, { method: 'POST', headers, agent }, (response) => {
      answer = response;
      response.setEncoding('utf8');
      resolve(response);
    });
    outgoing.once('socket', (socket) => (httpSocket = socket));
    // An answer that has begun is what its reader waits for.
    outgoing.setTimeout(silenceMs, () => (answer ?? outgoing).destroy(silence(silenceMs)));
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

function silence(ms: number): SilenceError {
  return new SilenceError(`nothing came within ${ms / 1000} s`);
}

/** Bytes so far, both protocols together; connections are kept, so differences are those of the runs between. */
function bytes(): { sent: number; received: number } {
  const sockets = [session?.socket, httpSocket].filter((socket) => socket !== undefined);
  return {
    sent: sockets.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0),
    received: sockets.reduce((sum, { bytesRead }) => sum + bytesRead, 0),
  };
}

async function answer(task: StreamTask): Promise<StreamSample> {
  const before = bytes();
  const cpu = process.cpuUsage();
  const runs: StreamRun[] = [];
  let problem: Error | undefined;
  try {
    for (let i = 0; i < task.runs; i++) runs.push(await run(task));
  } catch (error) {
    problem = error as Error;
  }
  const { user, system } = process.cpuUsage(cpu);
  const after = bytes();
  return {
    runs,
    sentBytes: after.sent - before.sent,
    receivedBytes: after.received - before.received,
    cpuUs: user + system,
    ...(problem !== undefined && { problem: problem.message, isSilence: problem instanceof SilenceError }),
  };
}

process.on('message', async (task: StreamTask) => process.send!(await answer(task)));
// Ctrl-C reaches all processes of a terminal; the parent says what becomes of us.
process.on('SIGINT', () => undefined);
process.once('disconnect', () => process.exit(0));
process.send!('ready');
