/**
 * What REST's binary encoding costs for tensors of given sizes: this front end's own codec, timed on bodies made for it.
 *
 * Called by the advice, once for each size, when somebody asks. Owns nothing; must not touch a connection, nor hold the main thread for
 * longer than a few milliseconds.
 */
import { probeMs, probeTensor } from '../base/codec-timing.js';
import { FREE_MESSAGE_BYTES, MessagePool } from '../base/message-pool.js';
import { parseInferRequest } from '../base/tensor-json-parse.js';
import type { JsonPool } from '../runtime/json-pool.js';
import { composeInfer } from './infer-body.js';
import { createReplyEncoder } from './infer-reply.js';

export function restBinaryProbe(jsonPool: JsonPool) {
  return {
    /** Milliseconds for decoding a request with `inputBytes` of tensor, median. */
    decodeMs(inputBytes: number): number {
      const { data, ...input } = probeTensor(inputBytes);
      const head = Buffer.from(
        JSON.stringify({
          inputs: [{ ...input, parameters: { binary_data_size: data.length } }],
          parameters: { binary_data_output: true },
        }),
      );
      return probeMs(inputBytes, () => composeInfer(parseInferRequest(head), data, 'probe', true));
    },

    /** Milliseconds for encoding a reply with `outputBytes` of tensor, median. */
    encodeMs(outputBytes: number): number {
      const memory = new MessagePool(FREE_MESSAGE_BYTES);
      const encodeReply = createReplyEncoder(jsonPool, memory);
      const response = { modelName: 'probe', modelVersion: '1', id: '', outputs: [probeTensor(outputBytes)] };
      return probeMs(outputBytes, () => {
        const encoded = encodeReply(response, () => true);
        // Binary outputs are never printed elsewhere; the body goes back as it does after a real reply.
        if (!(encoded instanceof Promise)) memory.give(encoded.body as Buffer<ArrayBuffer>);
      });
    },
  };
}
