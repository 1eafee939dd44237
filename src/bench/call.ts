/**
 * One caller's call, used again and again: what a transport stamps and fills in, and the contract between transports and loads.
 *
 * Made by the load, one for each caller, so that a request costs no closure and no promise of the bench's own. Plain fields: it is
 * written some 15 times per request.
 */
import type { DecodedAnswer } from '../client/answer.js';
import type { CallStamps } from '../client/budget.js';
import type { InferRequest } from '../client/types.js';
import type { ArmSpec } from './results.js';

/** What every call of a load sends; encoded anew each time. */
export interface Asked {
  readonly request: InferRequest;
  readonly arm: ArmSpec;
}

/** Of every request, the same for all arms: some servers' models fail without one. */
export const REQUEST_ID = 'bench';

const NO_BYTES: Buffer = Buffer.alloc(0);

/** Milliseconds on `performance.now()`; bytes of the message as on the wire. */
export class Call implements CallStamps {
  /** Position among the callers of its process, by which they share connections. */
  readonly index: number;
  readonly asked: Asked;
  /** Called once per start, when `answer` or `failure` is set; may start the next one. */
  readonly onDone: (call: Call) => void;
  /** When it should have been sent; by the load alone. */
  due = 0;
  /** The load's own stamps around the call: what the budget must add up to. */
  startedMs = 0;
  called = 0;
  encoded = 0;
  sent = 0;
  firstByte = 0;
  lastByte = 0;
  decoded = 0;
  requestBytes = 0;
  responseBytes = 0;
  serverTiming: string | undefined;
  answer: DecodedAnswer | undefined;
  failure: string | undefined;
  /** Memory that a transport keeps from call to call; the answer may be views on it, and is good until the next start. */
  sendMemory: Buffer = NO_BYTES;
  receiveMemory: Buffer = NO_BYTES;

  constructor(index: number, asked: Asked, onDone: (call: Call) => void) {
    this.index = index;
    this.asked = asked;
    this.onDone = onDone;
  }

  /** Nothing is tried twice here. */
  get began(): number {
    return this.called;
  }

  begin(): void {
    this.called = performance.now();
    this.serverTiming = undefined;
    this.answer = undefined;
    // What failed may still be on its way out of this memory.
    if (this.failure !== undefined) this.sendMemory = NO_BYTES;
    this.failure = undefined;
  }

  succeed(answer: DecodedAnswer): void {
    this.decoded = performance.now();
    this.answer = answer;
    this.onDone(this);
  }

  /** For what fails before it is sent: callers that ask again at once would do so inside each other. */
  failSoon(why: string): void {
    setImmediate(() => this.fail(why));
  }

  fail(why: string): void {
    this.decoded = performance.now();
    this.failure = why;
    this.onDone(this);
  }
}

/** Bytes on the sockets since they were opened, everything counted. */
export interface WireBytes {
  readonly sent: number;
  readonly received: number;
}

/** Connections to one server, opened before and closed after a load. */
export interface Transport {
  /** Calls that run at a time; more wait for their turn, encoded. */
  readonly capacity: number;
  /** Encodes, sends, receives, decodes; `call.onDone` follows, never inside this call. */
  start(call: Call): void;
  wireBytes(): WireBytes;
  close(): Promise<void>;
}
