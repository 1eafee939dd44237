/**
 * Writes ModelInferResponse of both packages: the exact size first, then heads and tensor bytes straight into the frame that is sent.
 *
 * Called from within the engine's `onResponse`; `unary.ts` (or `stream-reply.ts`) asks for `byteLength`, takes memory for the frame, and has `copy` write into
 * it while the outputs are still lent. So tensor bytes are copied exactly once. Must not keep the response.
 */

import { int64Bytes, textBytes, varintBytes, WireWriter } from '../base/wire-writer.js';
import type { InferOutput, InferResponse } from '../engine/types.js';

/** A message that knows its size and writes itself; a Buffer is one, too. */
export interface EncodedResponse {
  readonly byteLength: number;
  /** Writes the message at `offset`; returns the bytes written, which are `byteLength`. */
  copy(target: Buffer, offset: number): number;
  /** The message on its own, for whoever needs plain bytes. */
  toBuffer(): Buffer;
}

/** `inference.ModelInferResponse`: raw_output_contents has one entry per output, also for those of no elements. */
export function encodeModelInferResponse(response: InferResponse): EncodedResponse {
  return new RawOutputResponse(response, NO_PARAMETERS);
}

/** The same with response parameters, which are given as the fields that they are on the wire. */
export function encodeParametrizedResponse(response: InferResponse, parameters: Uint8Array): EncodedResponse {
  return new RawOutputResponse(response, parameters);
}

/** `inference.v1.ModelInferResponse`. */
export function encodeModelInferResponseV1(response: InferResponse): EncodedResponse {
  return new TensorDataResponse(response);
}

const NO_PARAMETERS = new Uint8Array(0);

class RawOutputResponse implements EncodedResponse {
  readonly byteLength: number;
  private readonly response: InferResponse;
  private readonly parameters: Uint8Array;
  /** For each output: bytes of its shape, bytes of its InferOutputTensor. */
  private readonly sizes: number[] = [];

  constructor(response: InferResponse, parameters: Uint8Array) {
    this.response = response;
    this.parameters = parameters;
    let total = textField(response.modelName) + textField(response.modelVersion) + textField(response.id);
    total += parameters.byteLength;
    for (const output of response.outputs) {
      const shape = shapeBytes(output.shape);
      const tensor = textField(output.name) + textField(output.datatype) + (shape === 0 ? 0 : delimited(shape));
      this.sizes.push(shape, tensor);
      total += delimited(tensor) + delimited(output.data.byteLength);
    }
    this.byteLength = total;
  }

  copy(target: Buffer, offset: number): number {
    const { response, sizes } = this;
    const writer = new WireWriter(target, offset);
    writer.text(10, response.modelName);
    writer.text(18, response.modelVersion);
    writer.text(26, response.id);
    if (this.parameters.byteLength > 0) writer.bytes(this.parameters);
    for (let index = 0; index < response.outputs.length; index++) {
      const output = response.outputs[index]!;
      writer.head(42, sizes[2 * index + 1]!);
      writer.text(10, output.name);
      writer.text(18, output.datatype);
      writer.shape(26, output.shape, sizes[2 * index]!);
    }
    for (const output of response.outputs) {
      writer.head(50, output.data.byteLength);
      writer.bytes(output.data);
    }
    return writer.finish(offset, this.byteLength);
  }

  toBuffer(): Buffer {
    return toBuffer(this);
  }
}

class TensorDataResponse implements EncodedResponse {
  readonly byteLength: number;
  private readonly response: InferResponse;
  /** For each output: bytes of its shape, bytes of its TensorData. */
  private readonly sizes: number[] = [];

  constructor(response: InferResponse) {
    this.response = response;
    let total = textField(response.modelName) + textField(response.modelVersion);
    for (const output of response.outputs) {
      const shape = shapeBytes(output.shape);
      const tensor = tensorDataBytes(output, shape);
      this.sizes.push(shape, tensor);
      total += delimited(tensor);
    }
    this.byteLength = total;
  }

  copy(target: Buffer, offset: number): number {
    const { response, sizes } = this;
    const writer = new WireWriter(target, offset);
    writer.text(10, response.modelName);
    writer.text(18, response.modelVersion);
    for (let index = 0; index < response.outputs.length; index++) {
      const output = response.outputs[index]!;
      writer.head(26, sizes[2 * index + 1]!);
      writer.text(10, output.name);
      writer.shape(18, output.shape, sizes[2 * index]!);
      writer.text(26, output.datatype);
      if (output.data.byteLength > 0) {
        writer.head(34, output.data.byteLength);
        writer.bytes(output.data);
      }
    }
    return writer.finish(offset, this.byteLength);
  }

  toBuffer(): Buffer {
    return toBuffer(this);
  }
}

function toBuffer(response: EncodedResponse): Buffer {
  const buffer = Buffer.allocUnsafe(response.byteLength);
  response.copy(buffer, 0);
  return buffer;
}

function tensorDataBytes(output: InferOutput, shape: number): number {
  const head = textField(output.name) + textField(output.datatype) + (shape === 0 ? 0 : delimited(shape));
  return output.data.byteLength === 0 ? head : head + delimited(output.data.byteLength);
}

/** Size of a string field; the empty string is not written. */
export function textField(text: string): number {
  return text === '' ? 0 : delimited(textBytes(text));
}

/** Size of a delimited field: all our field numbers have tags of one byte. */
export function delimited(length: number): number {
  return 1 + varintBytes(length) + length;
}

function shapeBytes(shape: readonly number[]): number {
  let total = 0;
  for (const dim of shape) total += int64Bytes(dim);
  return total;
}
