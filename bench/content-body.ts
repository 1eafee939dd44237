/**
 * Prepared requests that send texts or pictures in place of tensors: BYTES over gRPC in raw contents, and over REST as binary data.
 *
 * Used by the benches `text` and `preprocess`.
 */
import { grpcFrame } from './grpc-body.js';
import type { RestBody } from './rest-body.js';

export interface ContentBody {
  readonly model: string;
  /** Name of the content input: text or image. */
  readonly input: string;
  readonly elements: readonly Uint8Array[];
  /** The one output asked for. */
  readonly output: string;
}

/** A framed ModelInferRequest. */
export function grpcContentBody({ model, input, elements, output }: ContentBody): Buffer {
  return grpcFrame({
    modelName: model,
    inputs: [{ name: input, datatype: 'BYTES', shape: [elements.length, 1] }],
    outputs: [{ name: output }],
    rawInputContents: [prefixed(elements)],
  });
}

/** JSON, then the elements; asks for the output behind the JSON too. */
export function restContentBody({ input, elements, output }: ContentBody): RestBody {
  const data = prefixed(elements);
  const json = Buffer.from(
    JSON.stringify({
      inputs: [
        {
          name: input,
          datatype: 'BYTES',
          shape: [elements.length, 1],
          parameters: { binary_data_size: data.length },
        },
      ],
      outputs: [{ name: output, parameters: { binary_data: true } }],
    }),
  );
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(json.length),
  };
  return { body: Buffer.concat([json, data]), headers };
}

/** The protocol's raw layout of BYTES. */
function prefixed(elements: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    elements.flatMap((element) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(element.length);
      return [length, element];
    }),
  );
}
