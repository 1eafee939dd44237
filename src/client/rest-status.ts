/**
 * What an HTTP status and an error body mean: gRPC's code, the server's own words, and when to come again.
 *
 * Called by `rest-call.ts`. Knows `{"error": ...}` of the protocol, the forms of other servers, and what proxies say in between.
 */
import { printable } from '../base/errors.js';
import type { ClientErrorCode } from './client-error.js';

/** Longest message that is taken from an answer, in characters. */
const MAX_MESSAGE = 4096;
/** As much of a page that nobody meant for a program. */
const MAX_PAGE_TEXT = 120;

const CODES: Readonly<Record<number, ClientErrorCode>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  405: 'UNIMPLEMENTED',
  408: 'DEADLINE_EXCEEDED',
  409: 'ABORTED',
  411: 'INVALID_ARGUMENT',
  413: 'RESOURCE_EXHAUSTED',
  415: 'INVALID_ARGUMENT',
  422: 'INVALID_ARGUMENT',
  429: 'RESOURCE_EXHAUSTED',
  431: 'RESOURCE_EXHAUSTED',
  499: 'CANCELLED',
  500: 'INTERNAL',
  501: 'UNIMPLEMENTED',
  502: 'UNAVAILABLE',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
};

/** The code of a status that is no success. */
export function codeOfStatus(status: number): ClientErrorCode {
  return CODES[status] ?? 'UNKNOWN';
}

/** The server's message where the body has one, else a short description of what came. */
export function messageOf(status: number, contentType: string | undefined, body: Buffer): string {
  const told = messageIn(body);
  if (told !== undefined) return cut(told, MAX_MESSAGE);
  const type = printable(contentType?.split(';')[0]?.trim() || 'no content type');
  const text = pageText(body.toString('utf8', 0, 65_536));
  return `HTTP status ${status} with ${type}${text === '' ? ' and no text' : `: ${text}`}`;
}

/** The message of an event or a body that says `error`; undefined when there is none in `value`. */
export function messageOfJson(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { error, detail, message } = value as Record<string, unknown>;
  if (typeof error === 'object') return messageOfJson(error);
  for (const text of [error, detail, message]) if (typeof text === 'string' && text !== '') return text;
  return detail === undefined ? undefined : JSON.stringify(detail);
}

function messageIn(body: Buffer): string | undefined {
  try {
    return messageOfJson(JSON.parse(body.toString()));
  } catch {
    return undefined;
  }
}

/** The title of a page, or else the beginning of its text. */
function pageText(page: string): string {
  const title = /<title[^>]*>([^<]*)<\/title>/i.exec(page)?.[1] ?? '';
  const text = title.trim() || page.replace(/<(script|style)\b[\s\S]*?<\/\1>/gi, ' ').replace(/<[^>]*>/g, ' ');
  return printable(text.replace(/\s+/g, ' ').trim(), MAX_PAGE_TEXT);
}

function cut(text: string, max: number): string {
  return text.length > max ? `${text.slice(0, max)}...` : text;
}

/**
 * `Retry-After` in milliseconds from `nowMs` (of the wall clock), given in seconds or as a date; NaN, which forbids further tries, for
 * what is neither; undefined where there is none.
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return 1000 * Number(value);
  return Math.max(0, Date.parse(value) - nowMs);
}
