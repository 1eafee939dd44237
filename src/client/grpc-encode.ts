/**
 * Writes `inference.ModelInferRequest`: the exact size first, then heads and tensor bytes straight into the memory that is sent.
 *
 * Called by the gRPC client, which has grpc-js write the message into its own frame, and by the bench. So tensor bytes are copied exactly
 * once, when `copy` is called: the caller's arrays must stay as they are until then. What can't be right is refused when measured.
 */
import type { Datatype } from '../base/datatype.js';
import { int64Bytes, textBytes, varintBytes, WireWriter } from '../base/wire-writer.js';
import { refusal } from './client-error.js';
import { encodeParameters } from './grpc-parameters.js';
import { assertInferRequest } from './request-check.js';
import { byteView, checkTensor, isBytesData, rawBytes, writeRaw } from './tensor.js';
import { typedBytes, writeTyped } from './typed-encode.js';
import type { InferRequest, InputTensor } from './types.js';

/** How tensors travel: `raw_input_contents`, or `contents` with a field for each kind of number. */
export type GrpcEncoding = 'raw' | 'typed';

/** Flag and length before each message of a gRPC stream. */
export const FRAME_HEAD_BYTES = 5;

/** The largest message that protobuf's signed 32-bit lengths allow. */
const MAX_MESSAGE_BYTES = 0x7fff_ffff;

/** The message on its own, unframed. Throws a local INVALID_ARGUMENT for what can't be right. */
export function encodeInferRequest(request: InferRequest, encoding: GrpcEncoding): Buffer {
  return measureInferRequest(request, encoding).toBuffer();
}

/** The message behind its gRPC frame head, uncompressed: what goes into an HTTP/2 DATA frame as it is. */
export function encodeInferFrame(request: InferRequest, encoding: GrpcEncoding): Buffer {
  const message = measureInferRequest(request, encoding);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + message.byteLength);
  frame[0] = 0;
  frame.writeUInt32BE(message.byteLength, 1);
  message.copy(frame, FRAME_HEAD_BYTES);
  return frame;
}

/** The request, checked and measured, but not copied yet. Throws a local INVALID_ARGUMENT for what can't be right. */
export function measureInferRequest(request: InferRequest, encoding: GrpcEncoding): InferMessage {
  return new InferMessage(request, encoding === 'typed');
}

/** A message that knows its size and writes itself, as often as it is asked to. */
export class InferMessage {
  readonly byteLength: number;
  readonly #request: InferRequest;
  readonly #isTyped: boolean;
  readonly #datatypes: Datatype[] = [];
  /** For each input: bytes of its shape, of its InferInputTensor, of its data in the encoding. */
  readonly #sizes: number[] = [];
  /** Whole fields: the request's parameters, and the outputs asked for. Most requests have neither. */
  readonly #parameters: Uint8Array;
  readonly #outputs: Uint8Array;

  constructor(request: InferRequest, isTyped: boolean) {
    assertInferRequest(request);
    checkNames(request);
    this.#request = request;
    this.#isTyped = isTyped;
    this.#parameters = encodeParameters(34, request.parameters, 'the request');
    this.#outputs = encodeOutputs(request.outputs);
    let total = textField(request.model) + textField(request.version ?? '') + textField(request.id ?? '');
    total += this.#parameters.byteLength + this.#outputs.byteLength;
    for (const input of request.inputs) total += this.#measure(input);
    if (total > MAX_MESSAGE_BYTES)
      throw refusal(`the request takes ${total} bytes, a message can hold ${MAX_MESSAGE_BYTES}`);
    this.byteLength = total;
  }

  /** The name by which grpc-js asks for the size. */
  get length(): number {
    return this.byteLength;
  }

  /** Writes the message at `offset`; returns the bytes written, which are `byteLength`. */
  copy(target: Buffer, offset: number): number {
    const request = this.#request;
    const writer = new WireWriter(target, offset);
    writer.text(10, request.model);
    writer.text(18, request.version ?? '');
    writer.text(26, request.id ?? '');
    writer.bytes(this.#parameters);
    for (let index = 0; index < request.inputs.length; index++) this.#writeInput(writer, target, index);
    writer.bytes(this.#outputs);
    if (!this.#isTyped)
      for (let index = 0; index < request.inputs.length; index++) this.#writeRaw(writer, target, index);
    return writer.finish(offset, this.byteLength);
  }

  toBuffer(): Buffer {
    const buffer = Buffer.allocUnsafe(this.byteLength);
    this.copy(buffer, 0);
    return buffer;
  }

  #measure(input: InputTensor): number {
    const datatype = checkTensor(input);
    let shape = 0;
    for (const dim of input.shape) shape += int64Bytes(dim);
    const data = this.#isTyped ? typedBytes(input, datatype) : rawBytes(input.data);
    let tensor = textField(input.name) + textField(datatype) + (shape === 0 ? 0 : delimited(shape));
    if (this.#isTyped) tensor += delimited(data);
    this.#datatypes.push(datatype);
    this.#sizes.push(shape, tensor, data);
    return delimited(tensor) + (this.#isTyped ? 0 : delimited(data));
  }

  #writeInput(writer: WireWriter, target: Buffer, index: number): void {
    const { name, shape, data } = this.#request.inputs[index]!;
    const datatype = this.#datatypes[index]!;
    writer.head(42, this.#sizes[3 * index + 1]!);
    writer.text(10, name);
    writer.text(18, datatype);
    writer.shape(26, shape, this.#sizes[3 * index]!);
    if (!this.#isTyped) return;
    const length = this.#sizes[3 * index + 2]!;
    writer.head(42, length);
    writeTyped(target, writer.place(length), { data, datatype, length });
  }

  #writeRaw(writer: WireWriter, target: Buffer, index: number): void {
    const { data } = this.#request.inputs[index]!;
    const length = this.#sizes[3 * index + 2]!;
    writer.head(58, length);
    if (isBytesData(data)) writeRaw(target, data, writer.place(length));
    else writer.bytes(byteView(data));
  }
}

function checkNames({ model, version, id }: InferRequest): void {
  if (version !== undefined && typeof version !== 'string')
    throw refusal(`version of model '${model}' is a ${typeof version}, expected a string`);
  if (id !== undefined && typeof id !== 'string')
    throw refusal(`id of the request is a ${typeof id}, expected a string`);
}

const NO_OUTPUTS = new Uint8Array(0);

function encodeOutputs(outputs: InferRequest['outputs']): Uint8Array {
  if (outputs === undefined || outputs.length === 0) return NO_OUTPUTS;
  return Buffer.concat(
    outputs.map((output) => {
      const { name, classification } =
        typeof output === 'string' ? { name: output, classification: undefined } : output;
      if (typeof name !== 'string' || name === '') throw refusal('an output asked for has no name');
      const parameters = encodeParameters(18, classification === undefined ? undefined : { classification }, name);
      const length = textField(name) + parameters.byteLength;
      const field = Buffer.allocUnsafe(delimited(length));
      const writer = new WireWriter(field, 0);
      writer.head(50, length);
      writer.text(10, name);
      writer.bytes(parameters);
      writer.finish(0, field.length);
      return field;
    }),
  );
}

/** Size of a string field; the empty string is not written. */
function textField(text: string): number {
  return text === '' ? 0 : delimited(textBytes(text));
}

/** Size of a delimited field with a tag of one byte. */
function delimited(length: number): number {
  return 1 + varintBytes(length) + length;
}
