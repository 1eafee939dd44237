/**
 * A prepared REST body with the binary tensor extension: JSON, then the tensor's bytes. And a look into the reply.
 *
 * Used by the benches.
 */
import { bytesOf, type TensorBody } from './grpc-body.js';
import { BenchError } from './result.js';

export interface RestBody {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/** INPUT0 (FP32) behind the JSON; asks for OUTPUT0 behind the JSON too. */
export function restBody({ shape, data }: TensorBody): RestBody {
  const tensor = bytesOf(data);
  const json = Buffer.from(
    JSON.stringify({
      inputs: [{ name: 'INPUT0', datatype: 'FP32', shape, parameters: { binary_data_size: tensor.length } }],
      outputs: [{ name: 'OUTPUT0', parameters: { binary_data: true } }],
    }),
  );
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(json.length),
  };
  return { body: Buffer.concat([json, tensor]), headers };
}

/** What follows the JSON in a reply; the JSON must announce exactly that. */
export function binaryOutput(reply: Buffer): Uint8Array {
  // The JSON has no bytes above 127 here, so the first closing brace after which the announced size is left ends it.
  const size = Number(/"binary_data_size":\s*(\d+)/.exec(reply.toString('latin1', 0, 1000))?.[1]);
  const json = reply.toString('utf8', 0, reply.length - size);
  try {
    JSON.parse(json);
  } catch {
    throw new BenchError(`a reply is not JSON and ${size} bytes of tensor: ${json.slice(0, 200)}`);
  }
  return reply.subarray(reply.length - size);
}
