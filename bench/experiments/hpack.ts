/**
 * What do a request's headers weigh on HTTP/2, the first time and later, and what on HTTP/1.1?
 *
 * One experiment of `run.ts`. Read from the bytes between client and server: HEADERS and CONTINUATION frames with their nine bytes of
 * frame header, and everything up to the blank line over HTTP/1.1. The same metadata each time: a bearer token and a traceparent that
 * changes from request to request, beside what grpc-js and node:http send of themselves. Node's HTTP/2 never lets `authorization` into
 * the table (it might be guessed from sizes), so it is measured without the token, too.
 */

import { randomBytes } from 'node:crypto';
import type { ExperimentResult } from '../../src/bench/results.js';
import { median } from '../../src/bench/statistics.js';
import { type Caller, channelCaller, restCaller, unframed } from './callers.js';
import type { ExperimentContext } from './experiment.js';
import { identityRequest } from './payloads.js';
import { startProxy } from './tcp-proxy.js';

const REQUESTS = 20;
const PREFACE_BYTES = 24;

export async function hpack({ lab }: ExperimentContext): Promise<ExperimentResult> {
  const { grpcPort, httpPort } = await lab.plain();
  const asked = identityRequest(16);
  // The size of a usual JSON web token.
  const authorization = `Bearer ${randomBytes(210).toString('base64url')}`;
  const figures: Record<string, number> = {};
  for (const withToken of [true, false]) {
    const suffix = withToken ? '' : '_without_token';
    const headers = (): Record<string, string> => ({
      ...(withToken && { authorization }),
      traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`,
      'x-tenant': 'vision-team-production',
    });
    const grpc = await tapped(
      grpcPort,
      (port) => channelCaller({ port }),
      async (caller) => {
        await caller.call(asked.grpcPath, unframed(asked.frame), headers());
      },
    );
    const rest = await tapped(
      httpPort,
      (port) => restCaller({ port, connections: 1, keepAlive: true }),
      async (caller) => {
        await caller.call(asked.restPath, asked.json, { ...headers(), 'content-type': 'application/json' });
      },
    );
    const h2 = grpc.map(({ up, down }) => ({ up: headerFrameBytes(up), down: headerFrameBytes(down) }));
    const h1 = rest.map(({ up, down }) => ({ up: headBytes(up), down: headBytes(down) }));
    figures[`h2_request_first${suffix}`] = h2[0]!.up;
    figures[`h2_request_later${suffix}`] = median(h2.slice(1).map(({ up }) => up));
    figures[`h1_request${suffix}`] = median(h1.map(({ up }) => up));
    if (!withToken) continue;
    figures.h2_response_first = h2[0]!.down;
    figures.h2_response_later = median(h2.slice(1).map(({ down }) => down));
    figures.h1_response = median(h1.map(({ down }) => down));
  }
  return {
    name: 'hpack',
    figures,
    method:
      `${REQUESTS} requests one after another on one connection of grpc-js and one of node:http, with a bearer token of 287 ` +
      'characters, a traceparent that changes and a tenant; bytes counted between client and server.',
  };
}

interface Passed {
  readonly up: Buffer;
  readonly down: Buffer;
}

/** The bytes each way of each of the requests, sent one after another on one connection. */
async function tapped(
  backend: number,
  open: (port: number) => Caller,
  ask: (caller: Caller) => Promise<void>,
): Promise<Passed[]> {
  let up: Buffer[] = [];
  let down: Buffer[] = [];
  const tap = (direction: 'up' | 'down', bytes: Buffer): void => void (direction === 'up' ? up : down).push(bytes);
  const proxy = await startProxy({ backend: () => backend, tap });
  const caller = open(proxy.port);
  const passed: Passed[] = [];
  try {
    for (let i = 0; i < REQUESTS; i++) {
      await ask(caller);
      passed.push({ up: Buffer.concat(up), down: Buffer.concat(down) });
      [up, down] = [[], []];
    }
  } finally {
    caller.close();
    proxy.close();
  }
  return passed;
}

export interface Http2Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** The frames in `bytes`, which begin at a frame or at the client's preface. */
export function http2Frames(bytes: Buffer): Http2Frame[] {
  const frames: Http2Frame[] = [];
  let at = bytes.toString('latin1', 0, 3) === 'PRI' ? PREFACE_BYTES : 0;
  while (at + 9 <= bytes.length) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    frames.push({ type: bytes[at + 3]!, payload: bytes.subarray(at + 9, end) });
    at = end;
  }
  return frames;
}

/** Bytes of HEADERS (1) and CONTINUATION (9) frames; trailers are such, too. */
function headerFrameBytes(bytes: Buffer): number {
  return http2Frames(bytes).reduce(
    (sum, { type, payload }) => sum + (type === 1 || type === 9 ? 9 + payload.length : 0),
    0,
  );
}

function headBytes(bytes: Buffer): number {
  return bytes.indexOf('\r\n\r\n') + 4;
}
