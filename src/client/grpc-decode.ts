/**
 * Decodes `inference.ModelInferResponse` and `ModelStreamInferResponse` from a received message, in one pass.
 *
 * Called by the gRPC client, and by the bench. The message's memory is the answer's from here on: outputs are views on it where their
 * alignment allows. What a server can't have meant is an INTERNAL ClientError.
 */
import { ServeError } from '../base/errors.js';
import { VARINT, WireReader } from '../base/wire-reader.js';
import { createOutput, type DecodedAnswer, NO_PARAMETERS } from './answer.js';
import { ClientError } from './client-error.js';
import { readParameter } from './grpc-parameters.js';
import { elementCount, fromRaw, isDatatype } from './tensor.js';
import { readTyped } from './typed-decode.js';
import type { OutputTensor, ParameterValue } from './types.js';

/** Throws INTERNAL for bytes that are no such message, and for outputs whose data aren't what their shape says. */
export function decodeInferResponse(message: Buffer): DecodedAnswer {
  return decoded(message, 'ModelInferResponse', readResponse);
}

/** One message of a stream: an answer, or an error (with an answer that tells which request it belongs to, maybe). */
export interface StreamMessage {
  /** '' = none. */
  readonly error: string;
  readonly answer: DecodedAnswer | undefined;
}

/** Throws like {@link decodeInferResponse}. */
export function decodeStreamResponse(message: Buffer): StreamMessage {
  return decoded(message, 'ModelStreamInferResponse', (reader) => {
    if (isBareAnswer(reader)) return { error: '', answer: readResponse(reader) };
    let error = '';
    let answer: DecodedAnswer | undefined;
    while (reader.pos < reader.limit) {
      const tag = reader.tag();
      if (tag === 10) error = reader.text();
      else if (tag === 18) {
        const outer = reader.enter();
        answer = readResponse(reader);
        reader.leave(outer);
      } else reader.skip(tag);
    }
    return { error, answer };
  });
}

/** MLServer sends the answers of a stream without Triton's message around them, which has no field beyond the second. */
function isBareAnswer(reader: WireReader): boolean {
  const start = reader.pos;
  let isBare = false;
  while (!isBare && reader.pos < reader.limit) {
    const tag = reader.tag();
    isBare = tag === ID || tag === OUTPUTS;
    reader.skip(tag);
  }
  reader.pos = start;
  return isBare;
}

/** Tags of a ModelInferResponse. */
const ID = 26;
const OUTPUTS = 42;

function decoded<T>(message: Buffer, name: string, read: (reader: WireReader) => T): T {
  try {
    return read(new WireReader(message, name));
  } catch (error) {
    if (error instanceof ServeError)
      throw new ClientError('INTERNAL', `answer can't be read: ${error.message}`, { cause: error });
    throw error;
  }
}

interface OutputDraft {
  name: string;
  datatype: string;
  readonly shape: number[];
  /** Start and end of each `contents` field in the message. */
  spans: number[] | undefined;
}

/** Reads up to the reader's limit and leaves it there. */
function readResponse(reader: WireReader): DecodedAnswer {
  const drafts: OutputDraft[] = [];
  /** Start and end of each raw entry in the message. */
  const raw: number[] = [];
  let parameters: Record<string, ParameterValue> | undefined;
  let model = '';
  let version = '';
  let id = '';
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        model = reader.text();
        break;
      case 18:
        version = reader.text();
        break;
      case ID:
        id = reader.text();
        break;
      case 34:
        parameters ??= {};
        readParameter(reader, parameters);
        break;
      case OUTPUTS:
        drafts.push(readOutput(reader));
        break;
      case 50:
        readSpan(reader, raw);
        break;
      default:
        reader.skip(tag);
    }
  }
  const end = reader.limit;
  const outputs = drafts.map((draft, index) => attachData(reader, draft, raw.slice(2 * index, 2 * index + 2)));
  reader.pos = end;
  reader.limit = end;
  if (raw.length > 2 * drafts.length)
    throw new ClientError(
      'INTERNAL',
      `the answer has ${raw.length / 2} raw_output_contents for ${drafts.length} outputs`,
    );
  return { model, version, id, outputs, parameters: parameters ?? NO_PARAMETERS };
}

function readSpan(reader: WireReader, spans: number[]): void {
  const length = reader.length();
  spans.push(reader.pos, reader.pos + length);
  reader.pos += length;
}

function readOutput(reader: WireReader): OutputDraft {
  const draft: OutputDraft = { name: '', datatype: '', shape: [], spans: undefined };
  const outer = reader.enter();
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        draft.name = reader.text();
        break;
      case 18:
        draft.datatype = reader.text();
        break;
      case 24:
      case 26:
        readShape(reader, tag & 7, draft.shape);
        break;
      case 42:
        draft.spans ??= [];
        readSpan(reader, draft.spans);
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.leave(outer);
  return draft;
}

function readShape(reader: WireReader, wireType: number, shape: number[]): void {
  if (wireType === VARINT) {
    shape.push(reader.int64Number());
    return;
  }
  const outer = reader.enter();
  while (reader.pos < reader.limit) shape.push(reader.int64Number());
  reader.leave(outer);
}

/** `raw` is start and end of the output's raw entry, or empty. Contents count where there are both. */
function attachData(
  reader: WireReader,
  { name, datatype, shape, spans }: OutputDraft,
  raw: readonly number[],
): OutputTensor {
  if (!isDatatype(datatype))
    throw new ClientError('INTERNAL', `output '${name}' has datatype '${datatype}', which the protocol does not know`);
  for (const dim of shape)
    if (dim < 0) throw new ClientError('INTERNAL', `output '${name}' has shape [${shape.join(',')}]`);
  if (spans?.some((_, index) => index % 2 === 0 && spans[index] !== spans[index + 1]))
    return createOutput({ name, datatype, shape, data: readTyped(reader, spans, { name, datatype, shape }) });
  if (raw.length === 0 && elementCount(shape) > 0)
    throw new ClientError('INTERNAL', `output '${name}' has no data, its shape says [${shape.join(',')}]`);
  const bytes = reader.bytes.subarray(raw[0] ?? 0, raw[1] ?? 0);
  return createOutput({ name, datatype, shape, data: fromRaw(name, datatype, shape, bytes) });
}
