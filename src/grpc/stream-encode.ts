/**
 * Writes the messages of streamed replies: `inference.ModelStreamInferResponse` and `inference.v1.ModelStreamResponse`.
 *
 * Called from within the engine's `onResponse`, as `infer-encode.ts`, whose responses lie in the first of them. Each is written once,
 * into its frame; the parameters that all responses have are bytes made once. Must not keep a response.
 */

import { WireWriter } from '../base/wire-writer.js';
import type { InferOutput, InferResponse } from '../engine/types.js';
import { delimited, encodeParametrizedResponse, textField } from './infer-encode.js';
import type { ReplyBytes } from './unary.js';

/** Which request a message is about, as it came. */
export interface RequestRef {
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
}

const FINAL = 'triton_final_response';
const PARAMETERS_FIELD = (4 << 3) | 2;

/** The response parameter of every message but a request's last one; and of that one. */
export const MORE_FOLLOWS = parameter(FINAL, Buffer.from([0x08, 0]));
const LAST = parameter(FINAL, Buffer.from([0x08, 1]));

/** The parameters of a request's last message: with them comes its budget, where there is one. */
export function lastParameters(serverTiming: string | undefined): Buffer {
  if (serverTiming === undefined) return LAST;
  const text = Buffer.allocUnsafe(textField(serverTiming));
  new WireWriter(text, 0).text(0x1a, serverTiming);
  return Buffer.concat([LAST, parameter('server_timing', text)]);
}

/** One entry of a `map<string, InferParameter>`, the field's head included. `value` is the InferParameter. */
function parameter(key: string, value: Uint8Array): Buffer {
  const entry = textField(key) + delimited(value.byteLength);
  const bytes = Buffer.allocUnsafe(delimited(entry));
  const writer = new WireWriter(bytes, 0);
  writer.head(PARAMETERS_FIELD, entry);
  writer.text(10, key);
  writer.head(18, value.byteLength);
  writer.bytes(value);
  writer.finish(0, bytes.length);
  return bytes;
}

/** A response of ModelStreamInfer. `parameters` as the functions above make them. */
export function encodeStreamResponse(response: InferResponse, parameters: Uint8Array): ReplyBytes {
  return new StreamMessage('', response, parameters);
}

/** An error of ModelStreamInfer, in the stream. */
export function encodeStreamError(message: string, ref: RequestRef, parameters: Uint8Array): ReplyBytes {
  return new StreamMessage(message, { ...ref, outputs: [] }, parameters);
}

class StreamMessage implements ReplyBytes {
  readonly byteLength: number;
  private readonly error: string;
  private readonly response: ReturnType<typeof encodeParametrizedResponse>;

  constructor(error: string, response: InferResponse, parameters: Uint8Array) {
    this.error = error;
    this.response = encodeParametrizedResponse(response, parameters);
    this.byteLength = textField(error) + delimited(this.response.byteLength);
  }

  copy(target: Buffer, offset: number): number {
    const { response } = this;
    const writer = new WireWriter(target, offset);
    writer.text(10, this.error);
    writer.head(18, response.byteLength);
    response.copy(target, offset + this.byteLength - response.byteLength);
    return this.byteLength;
  }
}

/** Bytes before a BYTES element: its length. */
const LENGTH_BYTES = 4;
const FLOAT_FIELD = (2 << 3) | 5;
const FLOAT_FIELD_BYTES = 5;
const FLOAT_BYTES = 4;

/** The text of an output of one BYTES element, in UTF-8; lent as the output is. */
export function textOf({ data }: InferOutput): Uint8Array {
  return data.subarray(LENGTH_BYTES);
}

/**
 * `inference.v1.ModelStreamResponse`. `logit` is an output of one FP32; of none, where text that was held back ends the stream; or of many,
 * where the text of all tokens comes at once: there is no one logit then.
 */
export function encodeToken(text: Uint8Array, { data }: InferOutput): ReplyBytes {
  return new TokenMessage(text, data.byteLength === FLOAT_BYTES ? data : NO_LOGIT);
}

const NO_LOGIT = new Uint8Array(0);

class TokenMessage implements ReplyBytes {
  readonly byteLength: number;
  private readonly text: Uint8Array;
  private readonly logit: Uint8Array;

  constructor(text: Uint8Array, logit: Uint8Array) {
    this.text = text;
    this.logit = logit;
    this.byteLength = delimited(text.byteLength) + (logit.byteLength === 0 ? 0 : FLOAT_FIELD_BYTES);
  }

  copy(target: Buffer, offset: number): number {
    const { text, logit } = this;
    const writer = new WireWriter(target, offset);
    writer.head(10, text.byteLength);
    writer.bytes(text);
    if (logit.byteLength > 0) {
      // Raw tensors are little-endian, as a float of the wire is.
      const at = offset + this.byteLength - FLOAT_FIELD_BYTES;
      target[at] = FLOAT_FIELD;
      target.set(logit, at + 1);
    }
    return this.byteLength;
  }
}
