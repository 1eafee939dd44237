/**
 * W3C Trace Context: who called, as `traceparent` and `tracestate` say it, and the `traceresponse` that tells the caller its span.
 *
 * Called by `tracer.ts` for each request and by `sampler.ts`. An id is held as unsigned 32-bit numbers: hexadecimal text is made for the
 * few requests that are sampled. Malformed headers are no error: the request then starts a trace of its own.
 */

/** A span that somebody else made. */
export interface RemoteParent {
  readonly traceId: TraceId;
  readonly spanId: SpanId;
  readonly flags: number;
}

/** Sixteen bytes, the first ones first. */
export type TraceId = readonly [number, number, number, number];
/** Eight bytes, the first ones first. */
export type SpanId = readonly [number, number];

export const SAMPLED = 1;
/** The trace's id is random, at least its last seven bytes (Trace Context level 2): samplers may go by them. */
export const RANDOM = 2;

/** Bytes as text: toString(16) costs three times as much. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const TRACESTATE = /^[ -~\t]*$/;
const MAX_TRACESTATE_CHARACTERS = 512;
const MAX_TRACESTATE_MEMBERS = 32;

/** The caller's span; undefined for anything that is not a valid `traceparent`. Of later versions the part that all have is read. */
export function parseTraceparent(text: unknown): RemoteParent | undefined {
  // Most requests carry none, and nobody's header is long enough to be worth a pattern when it is not this one.
  if (typeof text !== 'string' || text.length < 55) return undefined;
  const match = TRACEPARENT.exec(text);
  if (match === null) return undefined;
  const [, version, trace, span, flags, more] = match as unknown as [string, string, string, string, string, string?];
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  const traceId: TraceId = [word(trace, 0), word(trace, 8), word(trace, 16), word(trace, 24)];
  const spanId: SpanId = [word(span, 0), word(span, 8)];
  if (traceId.every((part) => part === 0) || spanId.every((part) => part === 0)) return undefined;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) & (SAMPLED | RANDOM) };
}

/** The caller's `tracestate` as it came, '' for none or one that is not to be handed on. */
export function parseTracestate(text: unknown): string {
  if (typeof text !== 'string' || text.length > MAX_TRACESTATE_CHARACTERS || !TRACESTATE.test(text)) return '';
  return text.split(',').length > MAX_TRACESTATE_MEMBERS ? '' : text;
}

/** `00-<trace>-<span>-<flags>`. */
export function formatContext([a, b, c, d]: TraceId, [e, f]: SpanId, flags: number): string {
  return `00-${hex(a)}${hex(b)}${hex(c)}${hex(d)}-${hex(e)}${hex(f)}-0${flags.toString(16)}`;
}

/** Four random bytes. */
export function randomWord(): number {
  return Math.floor(Math.random() * 0x1_0000_0000);
}

/** The id of a new span; never zero. */
export function newSpanId(): SpanId {
  return [randomWord(), randomWord() || 1];
}

function word(text: string, at: number): number {
  return Number.parseInt(text.slice(at, at + 8), 16);
}

function hex(part: number): string {
  return HEX[part >>> 24]! + HEX[(part >>> 16) & 0xff]! + HEX[(part >>> 8) & 0xff]! + HEX[part & 0xff]!;
}
