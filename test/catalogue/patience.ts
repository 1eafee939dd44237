/**
 * Cases of clients that keep a connection and send next to nothing. They take as long as the server's patience, up to half a minute:
 * they begin with the suite and are looked at in the end.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { frame } from '../grpc/front-end.js';
import { DEADLINE, expectAnswer } from './case.js';
import { goodInfer } from './message.js';
import type { World } from './world.js';

export interface Patience {
  readonly row: string;
  readonly name: string;
  /** Resolves when the server has ended it as it should; rejects when it ended it otherwise. */
  readonly ended: Promise<void>;
}

/** Begins all of them. */
export function beginPatience(world: World): Patience[] {
  const { grpcPort, httpPort } = world.server;
  const cases: Patience[] = [
    {
      row: 'T2',
      name: 'a connection that says nothing is closed (gRPC)',
      ended: closed(grpcPort, ''),
    },
    {
      row: 'T2',
      name: 'a connection that sends half a preface is closed (gRPC)',
      ended: closed(grpcPort, 'PRI * HTTP/2.0\r\n'),
    },
    {
      row: 'T37',
      name: 'a body that comes a byte a second ends DEADLINE_EXCEEDED (gRPC)',
      ended: slowGrpcBody(world),
    },
    {
      row: 'R23',
      name: 'header fields that come a byte a second are 408 (HTTP/1.1)',
      ended: slowHttp(httpPort, 'POST /v2 HTTP/1.1\r\nHost: x\r\nA: ', 408),
    },
    {
      row: 'R24',
      name: 'a body that comes a byte a second is 408 (HTTP/1.1)',
      ended: slowHttp(
        httpPort,
        'POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n',
        408,
      ),
    },
  ];
  // They are awaited much later.
  for (const { ended } of cases) ended.catch(() => {});
  return cases;
}

async function closed(port: number, bytes: string): Promise<void> {
  const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
  socket.on('error', () => {}).resume();
  await once(socket, 'close');
}

/** Writes one more byte each second until `target` is gone. */
function trickle(target: { write(byte: string): unknown; once(event: 'close', listener: () => void): unknown }): void {
  const timer = setInterval(() => target.write('x'), 1000);
  target.once('close', () => clearInterval(timer));
}

async function slowHttp(port: number, start: string, status: number): Promise<void> {
  const socket: Socket = connect(port, '127.0.0.1', () => socket.write(start));
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  trickle(socket);
  await once(socket, 'close');
  if (!text.startsWith(`HTTP/1.1 ${status} `)) throw new Error(`expected ${status}, got '${text.slice(0, 60)}'`);
}

async function slowGrpcBody(world: World): Promise<void> {
  const { raw, stream, answer } = world.open();
  stream.write(frame(goodInfer()).subarray(0, 20));
  trickle(stream);
  expectAnswer(await answer, { status: DEADLINE });
  raw.close();
}
