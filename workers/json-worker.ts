/**
 * The JSON worker: parses requests and prints replies that are too large for the main thread, of inference, embeddings and
 * generated text.
 *
 * Run by `src/runtime/json-pool.ts` as a piscina task. Stateless but for its scratch buffer. Never throws: a refusal is returned as
 * data, since an error's code would not survive the way back.
 */

import { move, transferableSymbol, valueSymbol } from 'piscina';
import { parseEmbeddingsRequest } from '#src/base/embeddings-json-parse';
import { printEmbeddings } from '#src/base/embeddings-json-print';
import { ServeError } from '#src/base/errors';
import { parseJsonObject } from '#src/base/json-document';
import { JsonWriter } from '#src/base/json-writer';
import type { JsonReply, JsonTask } from '#src/base/tensor-json';
import { parseInferRequest } from '#src/base/tensor-json-parse';
import { printInferResponse } from '#src/base/tensor-json-print';

let writer: JsonWriter | undefined;

/** Scratch memory beyond this is given back after the task that needed it. */
const SCRATCH_BYTES = 8 * 1024 * 1024;

export default function runJsonTask(task: JsonTask): unknown {
  try {
    if (task.kind === 'parse') return parse(task.body);
    if (task.kind === 'print') return print((scratch) => printInferResponse(task.response, scratch));
    if (task.kind === 'parse-object') return { ok: true, kind: 'parsed-object', object: parseJsonObject(task.body) };
    if (task.kind === 'parse-embeddings') return parseEmbeddings(task.body);
    if (task.kind === 'print-embeddings') return print((scratch) => printEmbeddings(task.reply, scratch));
    return { ok: true, kind: 'pong' } satisfies JsonReply;
  } catch (error) {
    const { code, message } = ServeError.from(error);
    return { ok: false, code, message } satisfies JsonReply;
  }
}

function parse(body: Uint8Array<ArrayBuffer>): unknown {
  const request = parseInferRequest(body);
  const buffers = request.inputs.flatMap((input) => (input.data === undefined ? [] : [input.data.buffer]));
  return moved({ ok: true, kind: 'parsed', request }, buffers);
}

function parseEmbeddings(body: Uint8Array<ArrayBuffer>): unknown {
  const parsed = parseEmbeddingsRequest(body);
  return moved({ ok: true, kind: 'parsed-embeddings', parsed }, parsed.ok ? [parsed.request.data.buffer] : []);
}

function print(printTo: (scratch: JsonWriter) => Buffer<ArrayBuffer>): unknown {
  writer ??= new JsonWriter(65_536);
  const printed = printTo(writer);
  if (writer.buffer.length > SCRATCH_BYTES) writer = undefined;
  // A small Buffer is a view on Node's pool, which must not be moved.
  const text = printed.byteLength === printed.buffer.byteLength ? printed : Uint8Array.from(printed);
  return moved({ ok: true, kind: 'printed', text }, [text.buffer]);
}

/** What makes piscina send `reply` with `buffers` moved instead of copied. */
function moved(reply: JsonReply, buffers: ArrayBuffer[]): unknown {
  return move({ [transferableSymbol]: buffers, [valueSymbol]: reply } as unknown as ArrayBuffer);
}
