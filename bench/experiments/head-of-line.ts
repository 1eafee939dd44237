/**
 * Does a slow request hold up fast ones on its connection?
 *
 * One experiment of `run.ts`. Fast requests of 2 KB, one every 10 ms whatever became of those
 * before, alone and beside slow ones: `slow` computes for more than a tenth
 * of a second in one worker, the other worker is free. On one HTTP/2 connection, on one of HTTP/1.1 and on six, with one slow request
 * under way all the time and with six. Then beside a transfer of 10 MB each way: multiplexed
 * streams share one TCP connection's bytes. All of it with the slow ones on a connection of their own as well, since they take from the
 * fast ones what cores they have, too.
 */

import type { ExperimentResult } from '../../src/bench/results.js';
import { quantile } from '../../src/bench/statistics.js';
import { type Caller, http2Caller, restCaller } from './callers.js';
import { byTurns, type ExperimentContext, type Sample } from './experiment.js';
import { type Asked, computeRequest, identityRequest } from './payloads.js';

const LARGE_BYTES = 10_000_000;
/** A client that waits for each answer would ask least when it matters most. */
const EVERY_MS = 10;

interface Arm {
  readonly fast: Caller;
  /** What the slow or large requests go over; `fast` for the same connections. */
  readonly beside: Caller;
  readonly send: (caller: Caller, asked: Asked) => Promise<unknown>;
}

export async function headOfLine({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const { grpcPort, httpPort } = await lab.plain();
  const h1 = (connections: number) => restCaller({ port: httpPort, connections, keepAlive: true });
  const open = {
    h2: http2Caller({ port: grpcPort }),
    h2_other: http2Caller({ port: grpcPort }),
    one: h1(1),
    six: h1(6),
  };
  const grpc = (caller: Caller, { grpcPath, frame }: Asked) => caller.call(grpcPath, frame);
  const rest = (caller: Caller, { restPath, binary, binaryHeaders }: Asked) =>
    caller.call(restPath, binary, binaryHeaders);
  const arms = {
    h2: { fast: open.h2, beside: open.h2, send: grpc },
    h2_own_connection: { fast: open.h2, beside: open.h2_other, send: grpc },
    h1_one: { fast: open.one, beside: open.one, send: rest },
    h1_six: { fast: open.six, beside: open.six, send: rest },
  } satisfies Record<string, Arm>;
  const forMs = quick ? 250 : 500;
  const fast = identityRequest(512);
  const slow = computeRequest('slow');
  const large = identityRequest(LARGE_BYTES / 4);
  const alone = (arm: Arm) => () => beside(arm, fast, slow, 0, forMs / 3);
  const with_ = (arm: Arm, other: Asked, count: number) => () => beside(arm, fast, other, count, forMs);
  try {
    for (const arm of Object.values(arms)) {
      await beside(arm, fast, slow, 0, forMs / 3);
      await arm.send(arm.beside, large);
    }
    const figures = await byTurns(
      {
        h2_alone: alone(arms.h2),
        h1_one_alone: alone(arms.h1_one),
        h1_six_alone: alone(arms.h1_six),
        h2_one_slow: with_(arms.h2, slow, 1),
        h1_one_one_slow: with_(arms.h1_one, slow, 1),
        h1_six_one_slow: with_(arms.h1_six, slow, 1),
        h2_six_slow: with_(arms.h2, slow, 6),
        h2_own_connection_one_slow: with_(arms.h2_own_connection, slow, 1),
        h2_own_connection_six_slow: with_(arms.h2_own_connection, slow, 6),
        h1_six_six_slow: with_(arms.h1_six, slow, 6),
        h2_large: with_(arms.h2, large, 1),
        h2_own_connection_large: with_(arms.h2_own_connection, large, 1),
        h1_six_large: with_(arms.h1_six, large, 1),
      },
      { rounds: quick ? 1 : 5, warm: true },
    );
    say(
      `fast p50 alone ${figures.h2_alone_p50_ms!.toFixed(1)} ms; beside a slow one of ${figures.h2_one_slow_other_ms!.toFixed(0)} ms: ` +
        `${figures.h2_one_slow_p50_ms!.toFixed(1)} on one HTTP/2 connection, ${figures.h1_one_one_slow_p50_ms!.toFixed(1)} on one of HTTP/1.1, ` +
        `${figures.h1_six_one_slow_p50_ms!.toFixed(1)} on six`,
    );
    return {
      name: 'head_of_line',
      figures,
      method:
        'Fast requests (2 KB, nothing computed), one every 10 ms, while so many slow ones (other_ms each; one runs at a time, a second ' +
        'worker is free) or one transfer of 10 MB each way are under way all the time; milliseconds of the fast ones, from when they were due.',
    };
  } finally {
    for (const caller of Object.values(open)) caller.close();
  }
}

/** Fast requests at fixed times for so long while `count` others are under way, each of which is asked again when it is answered. */
async function beside(arm: Arm, fast: Asked, other: Asked, count: number, forMs: number): Promise<Sample> {
  const { send } = arm;
  const waited: number[] = [];
  const others: number[] = [];
  let over = false;
  const background = Array.from({ length: count }, async () => {
    while (!over) {
      const began = performance.now();
      await send(arm.beside, other);
      others.push(performance.now() - began);
    }
  });
  const began = performance.now();
  const foreground: Promise<void>[] = [];
  const ask = async (due: number): Promise<void> => {
    await send(arm.fast, fast);
    waited.push(performance.now() - due);
  };
  for (let due = began; due < began + forMs; due += EVERY_MS) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    foreground.push(ask(due));
  }
  try {
    await Promise.all(foreground);
  } finally {
    over = true;
    await Promise.all(background);
  }
  return {
    p50_ms: quantile(waited, 0.5),
    p99_ms: quantile(waited, 0.99),
    mean_ms: waited.reduce((sum, ms) => sum + ms, 0) / waited.length,
    ...(count > 0 && { other_ms: quantile(others, 0.5) }),
  };
}
