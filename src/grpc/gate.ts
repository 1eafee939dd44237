/**
 * Sees every call before grpc-js: stamps its first byte, and refuses by its headers what grpc-js would take, run or keep.
 *
 * Called by `server.ts`, which puts it in front of grpc-js's own 'stream' listener. Owns the rules on method, content type, timeout,
 * metadata size, encoding and drain; the body is `body-guard.ts`'s. Must not know a service's messages.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { nowMs } from '../base/clock.js';
import { printable } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import { guardBody } from './body-guard.js';
import { type CallOwner, GatedCall } from './gated-call.js';
import { parseGrpcTimeoutMs } from './grpc-timeout.js';
import type { MethodTable } from './method.js';
import { refuseStream, respondAndClose } from './refusal.js';

/** What Triton says while it stops; clients match it. */
export const DRAINING = 'GRPC server is shutting down and has stopped accepting new requests.';

/** Metadata of one call, counted as HTTP/2 counts (name + value + 32 per field). */
const METADATA_MAX_BYTES = 16 * 1024;
const FIELD_OVERHEAD = 32;

/** Longest delay a timer can hold; a deadline beyond it (24.8 days) is kept but never fires. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Triton's: the first error of a stream is to end it as a real status. */
const GRPC_ERROR_HEADER = 'triton_grpc_error';

/** Inferences: a trace of every look at the server's health is of no use to anybody. */
const TRACED = /Infer$/;

const CONTENT_TYPE = /^application\/grpc(\+proto)?[\t ]*(;.*)?$/i;

export interface GateOptions {
  readonly methods: MethodTable;
  /** What takes calls over that are served without grpc-js, by full path. */
  readonly bare: ReadonlyMap<string, (call: GatedCall) => void>;
  readonly owner: CallOwner;
  isDraining(): boolean;
  /** Told of an exception on the way in. */
  onFault(error: unknown): void;
}

/** A listener for an HTTP/2 server's 'stream' event. */
export type StreamListener = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  rawHeaders: string[],
) => void;

/** The listener to put in place of `next`, grpc-js's own. */
export function createGate(options: GateOptions, next: StreamListener): StreamListener {
  return (stream, headers, flags, rawHeaders) => {
    const call = admit(options, stream, headers, rawHeaders);
    if (call === undefined) return;
    try {
      const take = options.bare.get(call.method.path);
      if (take !== undefined) take(call);
      else guardBody(call, () => next(stream, headers, flags, rawHeaders));
    } catch (error) {
      // Nothing else would catch it: we are called from an event of the HTTP/2 session.
      options.onFault(error);
      call.refuse('INTERNAL', 'internal error');
    }
  };
}

function admit(
  { methods, owner, isDraining }: GateOptions,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: string[],
): GatedCall | undefined {
  if (headers[':method'] !== 'POST') {
    tellUnknown(owner, 'UNKNOWN');
    return void respondAndClose(stream, { ':status': 405, allow: 'POST' });
  }
  const contentType = headers['content-type'];
  if (contentType !== 'application/grpc' && !CONTENT_TYPE.test(contentType ?? '')) {
    tellUnknown(owner, 'UNKNOWN');
    return void respondAndClose(stream, { ':status': 415 });
  }
  // grpc-js compares as if case mattered.
  headers['content-type'] = 'application/grpc';
  const path = headers[':path'] ?? '';
  const method = methods.get(path);
  if (method === undefined) {
    const message = `The server does not implement the method ${printable(path, 256)}`;
    // Nothing has been done for it, but no reply goes without its budget.
    const timeline = tellUnknown(owner, 'UNIMPLEMENTED');
    const budget: Record<string, string> = owner.serverTiming ? { 'server-timing': timeline.serverTiming() } : {};
    return void refuseStream(stream, 'UNIMPLEMENTED', message, budget);
  }
  const call = new GatedCall(stream, method, owner);
  if (owner.tracer !== undefined && TRACED.test(path)) {
    call.trace = owner.tracer.start(path, headers.traceparent, headers.tracestate);
  }
  if (isDraining() && !method.whileDraining) return void call.refuse('UNAVAILABLE', DRAINING);
  if (method.refusal !== undefined) return void call.refuse(method.refusal.code, method.refusal.message);
  const bytes = metadataBytes(rawHeaders);
  if (bytes > METADATA_MAX_BYTES) {
    const message = `metadata of ${bytes} bytes, at most ${METADATA_MAX_BYTES} are accepted`;
    return void call.refuse('RESOURCE_EXHAUSTED', message);
  }
  if (headers['grpc-timeout'] !== undefined && !setDeadline(call, headers)) return undefined;
  if (headers['grpc-encoding'] !== undefined && !setEncoding(call, headers)) return undefined;
  call.hasGrpcErrors = headers[GRPC_ERROR_HEADER] === 'true';
  return call;
}

/** Tells the observer of a request for no RPC; whatever it was for is no label. A status that HTTP gave clients read as UNKNOWN. */
function tellUnknown(owner: CallOwner, status: 'UNKNOWN' | 'UNIMPLEMENTED'): Timeline {
  const timeline = new Timeline(nowMs());
  owner.onFinished({
    protocol: 'grpc',
    method: '',
    status,
    arm: undefined,
    modelName: '',
    timeline,
    requestBytes: 0,
    responseBytes: 0,
  });
  return timeline;
}

/** Reads the deadline and takes the header from grpc-js where the gate keeps it; false when the call was refused. */
function setDeadline(call: GatedCall, headers: IncomingHttpHeaders): boolean {
  const text = String(headers['grpc-timeout']);
  const timeoutMs = parseGrpcTimeoutMs(text);
  if (timeoutMs === undefined) {
    call.refuse('INTERNAL', `Invalid grpc-timeout value "${printable(text)}"`);
    return false;
  }
  // What is left of less than a millisecond is gone before any handler runs.
  if (timeoutMs < 1) {
    call.refuse('DEADLINE_EXCEEDED', 'Deadline exceeded');
    return false;
  }
  call.deadlineMs = call.timeline.firstByte + timeoutMs;
  if (call.method.isBare) {
    delete headers['grpc-timeout'];
    if (timeoutMs <= TIMER_MAX_MS) call.startTimer(timeoutMs);
  } else if (timeoutMs > TIMER_MAX_MS) {
    delete headers['grpc-timeout'];
  }
  return true;
}

/** Reads the encoding and takes the header from grpc-js, whose inflating has no bound over all calls; false when refused. */
function setEncoding(call: GatedCall, headers: IncomingHttpHeaders): boolean {
  const encoding = String(headers['grpc-encoding']);
  delete headers['grpc-encoding'];
  if (encoding === 'identity') return true;
  const { isBare } = call.method;
  if (isBare && (encoding === 'gzip' || encoding === 'deflate')) {
    call.encoding = encoding;
    return true;
  }
  const accepted = isBare ? 'identity,deflate,gzip' : 'identity';
  call.refuse('UNIMPLEMENTED', `unsupported grpc-encoding "${printable(encoding)}", expected one of ${accepted}`, {
    'grpc-accept-encoding': accepted,
  });
  return false;
}

function metadataBytes(rawHeaders: string[]): number {
  let bytes = 0;
  for (let i = 0; i < rawHeaders.length; i++) bytes += rawHeaders[i]!.length;
  return bytes + (rawHeaders.length / 2) * FIELD_OVERHEAD;
}
