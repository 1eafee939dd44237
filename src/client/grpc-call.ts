/**
 * One try of one call on a channel: what is sent and what comes back, with the stamps that a budget needs.
 *
 * Called by `grpc-client.ts` and `grpc-stream.ts`. It takes the channel's own call, beneath grpc-js's clients and interceptors: there a
 * message comes before it is decoded, and is asked for one by one. Seen are: the request's write to its connection, the answer's head,
 * each whole message (inflated already), the status. Not seen: the first byte of a message, and sizes on the wire of compressed ones.
 */
import { type Channel, Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { CallScope } from './call-scope.js';
import { ClientError, type ClientErrorCode, plainReason } from './client-error.js';
import type { InferMessage } from './grpc-encode.js';

/** A message to send: grpc-js asks for its length and has it copied into the frame. */
export type OutgoingMessage = Buffer | InferMessage;

export interface CallTarget {
  readonly channel: Channel;
  readonly path: string;
  readonly metadata: Metadata;
  readonly scope: CallScope;
}

/** A try that failed. */
export class TryError extends Error {
  readonly code: ClientErrorCode;
  readonly trailers: Metadata;
  /** Something of an answer had come: no try after this one. */
  readonly isAnswered: boolean;

  constructor(
    code: ClientErrorCode,
    message: string,
    details: { trailers: Metadata; isAnswered: boolean; cause?: unknown },
  ) {
    super(message, { cause: details.cause });
    this.code = code;
    this.trailers = details.trailers;
    this.isAnswered = details.isAnswered;
  }
}

export interface UnaryReply<Answer> {
  readonly answer: Answer;
  readonly trailers: Metadata;
  /** The server's head, before its message. */
  readonly headers: Metadata;
  readonly responseBytes: number;
  /** Stamps on the clock of `performance.now()`, as in CallStamps. */
  readonly sentMs: number;
  readonly firstByteMs: number;
  readonly endMs: number;
  /** What `decode` took. It runs while the status is on its way. */
  readonly decodeMs: number;
}

const NO_METADATA = new Metadata();

/** Sends one message and resolves with the one answer. Rejects with TryError, or with the scope's reason. */
export function callUnary<Answer>(
  target: CallTarget,
  message: OutgoingMessage,
  decode: (bytes: Buffer) => Answer,
): Promise<UnaryReply<Answer>> {
  const { scope } = target;
  return new Promise((resolve, reject) => {
    const call = startableCall(target);
    const unwatch = watch(scope, call);
    let sentMs = 0;
    let firstByteMs = 0;
    let decodeMs = 0;
    let responseBytes = 0;
    let headers = NO_METADATA;
    let answer: { readonly value: Answer } | undefined;
    let failure: unknown;
    call.start(target.metadata, {
      onReceiveMetadata(received) {
        headers = received;
        firstByteMs = performance.now();
      },
      onReceiveMessage(bytes: Buffer) {
        const begin = performance.now();
        responseBytes = bytes.length;
        try {
          answer = { value: decode(bytes) };
        } catch (error) {
          failure = error;
        }
        decodeMs = performance.now() - begin;
        // Where nothing else comes, the status does.
        call.startRead();
      },
      onReceiveStatus(received) {
        unwatch();
        const endMs = performance.now();
        const { metadata: trailers } = received;
        if (scope.error) reject(scope.error);
        else if (received.code !== status.OK) reject(errorOf(target, received, firstByteMs > 0));
        else if (failure) reject(failure);
        else if (answer) {
          const { value } = answer;
          // What is answered before its write was reported had been sent all the same.
          const sent = sentMs === 0 ? firstByteMs : Math.min(sentMs, firstByteMs);
          resolve({ answer: value, trailers, headers, responseBytes, sentMs: sent, firstByteMs, endMs, decodeMs });
        } else
          reject(
            new TryError('INTERNAL', 'the server ended the call without an answer', { trailers, isAnswered: true }),
          );
      },
    });
    call.sendMessageWithContext(
      {
        callback() {
          sentMs = performance.now();
        },
      },
      message as Buffer,
    );
    call.halfClose();
    call.startRead();
  });
}

export type RawCall = ReturnType<Channel['createCall']>;

/** A call that is not started yet, with the deadline of its scope, which the server hears. */
export function startableCall({ channel, path, scope }: CallTarget): RawCall {
  const { remainingMs } = scope;
  const deadline = remainingMs === Number.POSITIVE_INFINITY ? remainingMs : Date.now() + Math.max(1, remainingMs);
  return channel.createCall(path, deadline, null, null, null);
}

/** Cancels the call when its scope ends; returns what takes that back. */
export function watch(scope: CallScope, call: RawCall): () => void {
  scope.onEnd = ({ message }) => call.cancelWithStatus(status.CANCELLED, message);
  return () => {
    scope.onEnd = undefined;
  };
}

/** How grpc-js begins where there was no connection; it doesn't say to where. */
const NO_CONNECTION = /^No connection established\. Last error: (?:Error(?: \[\w+\])?: )?/;

export function errorOf(
  { channel }: Pick<CallTarget, 'channel'>,
  { code, details, metadata }: StatusObject,
  isAnswered: boolean,
): TryError {
  const address = channel.getTarget().replace(/^dns:\/*/, '');
  // grpc-js ends it so where name resolution has nothing to say.
  const message = NO_CONNECTION.test(details)
    ? plainReason(details.replace(NO_CONNECTION, `no connection to ${address}: `).replace(/\. Resolution note: $/, ''))
    : details.replace(/\. Resolution note: $/, '');
  return new TryError(codeOf(code), message || `the server answered with status ${code}`, {
    trailers: metadata,
    isAnswered,
  });
}

function codeOf(code: number): ClientErrorCode {
  const name = status[code];
  return name === undefined || name === 'OK' ? 'UNKNOWN' : (name as ClientErrorCode);
}

/** What the caller sees of a failure. */
export function clientErrorOf(error: unknown, attempts: number): ClientError {
  if (error instanceof TryError) return new ClientError(error.code, error.message, { attempts, cause: error.cause });
  if (error instanceof ClientError) return error;
  return new ClientError('INTERNAL', 'the client failed', { attempts, cause: error });
}
