/**
 * One ModelStreamInfer call: one request, and its answers as they are asked for.
 *
 * Made by `grpc-client.ts`, for each try. A reader that is slow holds the server back: beyond a few messages none is taken from the
 * connection, whose window then closes. Must not know what answers are for.
 */
import { Metadata, status } from '@grpc/grpc-js';
import {
  type CallTarget,
  clientErrorOf,
  errorOf,
  type OutgoingMessage,
  type RawCall,
  startableCall,
  watch,
} from './grpc-call.js';

/** Messages taken before they are asked for. */
const MAX_WAITING = 16;

export class AnswerStream {
  readonly #call: RawCall;
  readonly #messages: Buffer[] = [];
  #isReading = true;
  #isOver = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  /** Resolves when the server has begun to answer; rejects with TryError when it refused, or could not be reached. */
  readonly opened: Promise<void>;
  sentMs = 0;
  /** 0 before the end. */
  endMs = 0;
  firstByteMs = 0;
  responseBytes = 0;
  trailers = new Metadata();

  constructor(target: CallTarget, message: OutgoingMessage) {
    const { scope } = target;
    this.#call = startableCall(target);
    const unwatch = watch(scope, this.#call);
    this.opened = new Promise((resolve, reject) => {
      this.#call.start(target.metadata, {
        onReceiveMetadata: () => {
          this.firstByteMs = performance.now();
          resolve();
        },
        onReceiveMessage: (bytes: Buffer) => this.#take(bytes),
        onReceiveStatus: (received) => {
          unwatch();
          this.endMs = performance.now();
          this.trailers = received.metadata;
          this.#isOver = true;
          if (scope.error) this.#error = scope.error;
          else if (received.code !== status.OK) this.#error = errorOf(target, received, this.firstByteMs > 0);
          if (this.#error) reject(this.#error);
          else resolve();
          this.#wake?.();
        },
      });
    });
    const callback = (): void => {
      this.sentMs = performance.now();
    };
    this.#call.sendMessageWithContext({ callback }, message as Buffer);
    this.#call.halfClose();
    this.#call.startRead();
  }

  /** The next message; undefined behind the last. Rejects with ClientError where the stream failed, after the messages before. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) {
        this.#read();
        return message;
      }
      if (this.#error) throw clientErrorOf(this.#error, 1);
      if (this.#isOver) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Ends the call, unless it is over: the server stops working for it. */
  cancel(): void {
    if (!this.#isOver) this.#call.cancelWithStatus(status.CANCELLED, 'the stream was not read to its end');
  }

  #take(bytes: Buffer): void {
    this.#isReading = false;
    this.responseBytes += bytes.length;
    this.#messages.push(bytes);
    this.#read();
    this.#wake?.();
  }

  #read(): void {
    if (this.#isReading || this.#isOver || this.#messages.length >= MAX_WAITING) return;
    this.#isReading = true;
    this.#call.startRead();
  }
}
