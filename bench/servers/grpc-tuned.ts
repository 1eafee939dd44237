/**
 * A bare grpc-js echo, tuned as this server is: the same codec, the same HTTP/2 windows, no channelz. It computes nothing.
 *
 * Started by `bench/floor.ts` as a process of its own, with the same V8 flags; prints its port. What tensorwire costs above it is
 * the price of validating, queueing, batching, running and timing a request.
 */
import { createServer } from 'node:net';
import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import type { DecodedInfer } from '#src/grpc/decoded-infer';
import { decodeModelInferRequest } from '#src/grpc/infer-decode';
import { type EncodedResponse, encodeModelInferResponse } from '#src/grpc/infer-encode';
import { createWiredServer } from '#src/grpc/windows';

const server = new Server({ 'grpc.enable_channelz': 0, 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
server.register(
  '/inference.GRPCInferenceService/ModelInfer',
  ({ request }: { request: DecodedInfer }, callback: sendUnaryData<EncodedResponse>) => {
    const { shape, data } = request.inputs[0]!;
    const output = { name: 'OUTPUT0', datatype: 'FP32', shape, data } as const;
    callback(
      null,
      encodeModelInferResponse({ modelName: request.modelName, modelVersion: '1', id: '', outputs: [output] }),
    );
  },
  // grpc-js uses byteLength and copy() only.
  (response: EncodedResponse) => response as unknown as Buffer,
  decodeModelInferRequest,
  'unary',
);
const { injector } = createWiredServer(server, ServerCredentials.createInsecure(), 10_000);
const listener = createServer({ noDelay: true }, (socket) => injector.injectConnection(socket));
listener.listen(0, '127.0.0.1', () => {
  console.log(`port ${(listener.address() as { port: number }).port}`);
});
