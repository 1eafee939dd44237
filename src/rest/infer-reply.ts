/**
 * From the engine's response to the body of a reply: JSON, or JSON with the tensors' bytes behind it.
 *
 * Called by `infer-route.ts` from within the engine's `onResponse`, while the outputs are lent: they are copied once, either printed
 * or moved as bytes into the one buffer that is sent. Large JSON is printed by the pool, from a copy of its own.
 */
import { copyBytes } from '../base/copy-bytes.js';
import { JsonWriter } from '../base/json-writer.js';
import type { MessagePool } from '../base/message-pool.js';
import type { JsonInferResponse, JsonOutput } from '../base/tensor-json.js';
import { printInferResponse } from '../base/tensor-json-print.js';
import type { InferOutput, InferResponse } from '../engine/types.js';
import type { JsonPool } from '../runtime/json-pool.js';

export interface EncodedReply {
  readonly body: Uint8Array;
  /** Length of the JSON when tensors follow it, else undefined. */
  readonly jsonLength: number | undefined;
}

/** Tensors beyond this, in bytes, are printed off the main thread: about a fifth of a millisecond's work. */
const INLINE_BYTES = 8_192;

export type ReplyEncoder = (
  response: InferResponse,
  isBinaryOutput: (name: string) => boolean,
) => EncodedReply | Promise<EncodedReply>;

/** An encoder with scratch memory of its own; bodies lie in memory from `memory`, to be given back when they are sent. What it returns (or throws, or rejects with) no longer needs the lent outputs. */
export function createReplyEncoder(jsonPool: JsonPool, memory: MessagePool): ReplyEncoder {
  const writer = new JsonWriter(16_384);
  return (response, isBinaryOutput) => {
    const binary: InferOutput[] = [];
    let binaryBytes = 0;
    let printedBytes = 0;
    const outputs = response.outputs.map((output): JsonOutput => {
      const { name, datatype, shape, data } = output;
      if (isBinaryOutput(name)) {
        binary.push(output);
        binaryBytes += data.length;
        return { name, datatype, shape, data: undefined, binaryDataSize: data.length };
      }
      printedBytes += data.length;
      return { name, datatype, shape, data, binaryDataSize: 0 };
    });
    const { id, modelName, modelVersion } = response;
    const head: JsonInferResponse = { id, modelName, modelVersion, outputs };
    if (printedBytes > INLINE_BYTES) return printElsewhere(jsonPool, head, binary, binaryBytes);
    const body = printInferResponse(head, writer, binaryBytes, memory);
    const jsonLength = body.length - binaryBytes;
    appendTensors(body, jsonLength, binary);
    return { body, jsonLength: binary.length > 0 ? jsonLength : undefined };
  };
}

function printElsewhere(
  jsonPool: JsonPool,
  head: JsonInferResponse,
  binary: readonly InferOutput[],
  binaryBytes: number,
): Promise<EncodedReply> {
  const outputs = head.outputs.map((output) => ({ ...output, data: output.data && copied(output.data) }));
  const tail = Buffer.allocUnsafeSlow(binaryBytes);
  appendTensors(tail, 0, binary);
  return jsonPool.print({ ...head, outputs }).then((text) => {
    if (binary.length === 0) return { body: text, jsonLength: undefined };
    return { body: Buffer.concat([text, tail]), jsonLength: text.length };
  });
}

function appendTensors(body: Buffer, from: number, outputs: readonly InferOutput[]): void {
  let at = from;
  for (const { data } of outputs) at = copyBytes(body, data, at);
}

function copied(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = Buffer.allocUnsafeSlow(data.length);
  copyBytes(copy, data, 0);
  return copy;
}
