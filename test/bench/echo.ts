/** A small REST server of the protocol in the test's own hands: it answers late, wrongly or oddly when told to. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Payload } from '../../src/bench/load-types.js';

export interface OddServer {
  readonly url: string;
  /** Connections that their clients have not ended. */
  readonly open: ReadonlySet<Socket>;
  close(): Promise<void>;
}

/** The answer that every caller expects: one FP32 output of one element. */
export const ANSWER = JSON.stringify({
  model_name: 'm',
  model_version: '1',
  outputs: [{ name: 'Y', datatype: 'FP32', shape: [1], data: [1.5] }],
});

export const PAYLOAD: Payload = {
  model: 'm',
  payloadKb: null,
  inputs: [{ name: 'X', shape: [1], data: new Float32Array([1.5]) }],
};

/** `answer` gets each request once its body has come, and its number, from 0 on. */
export async function startOddServer(
  answer: (response: ServerResponse, index: number, request: IncomingMessage, body: Buffer) => void,
): Promise<OddServer> {
  let count = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => answer(response, count++, request, Buffer.concat(chunks)));
  });
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    for (const event of ['end', 'close']) socket.once(event, () => open.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    open,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
