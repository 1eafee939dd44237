/**
 * Where log lines leave the process: one file descriptor, written asynchronously, that may die without taking us along.
 *
 * Called by `log.ts`. Owns the lines not yet written and the count of those lost. A reader that is gone (EPIPE), a full disk
 * (ENOSPC) or one that only sleeps costs lines, never the process and never the main loop: a write is tried once more with
 * the next line, at most one is under way, and what waits is bounded. Must not throw, nor log.
 */

import { write, writeSync } from 'node:fs';

export interface LineSink {
  /** Queues one line, which ends with its newline. */
  write(line: string): void;
  /** Lines lost so far. */
  readonly droppedCount: number;
  /** Writes what waits, as far as the descriptor takes it at once. For the end of the process. */
  flushSync(): void;
}

/** A sleeping reader is asked again after this long; a terminal or pipe that is only full empties sooner. */
const RETRY_MS = 50;

/** A sink on `fd` that holds at most `maxWaitingBytes` (counted in UTF-16 units) and drops new lines beyond. */
export function createLineSink(fd: number, maxWaitingBytes = 1 << 20): LineSink {
  let waiting: string[] = [];
  let waitingBytes = 0;
  let droppedCount = 0;
  let underWay: { bytes: Buffer; readonly lineCount: number } | undefined;
  /** Whether the bytes under way are in the system's hands, rather than waiting for a sleeping reader. */
  let isWriting = false;

  function next(): void {
    if (waiting.length === 0) return;
    underWay = { bytes: Buffer.from(waiting.join('')), lineCount: waiting.length };
    waiting = [];
    waitingBytes = 0;
    send();
  }

  function send(): void {
    if (underWay === undefined) return;
    isWriting = true;
    write(fd, underWay.bytes, (error, written) => {
      isWriting = false;
      if (underWay === undefined) return;
      if (error === null && written < underWay.bytes.length) {
        underWay.bytes = underWay.bytes.subarray(written);
        send();
      } else if (error !== null && isBusy(error)) {
        setTimeout(send, RETRY_MS).unref();
      } else {
        if (error !== null) droppedCount += underWay.lineCount;
        underWay = undefined;
        next();
      }
    });
  }

  return {
    write(line) {
      if (waitingBytes + line.length > maxWaitingBytes) {
        droppedCount++;
        return;
      }
      waiting.push(line);
      waitingBytes += line.length;
      // Lines of one turn of the event loop leave in one write.
      if (underWay === undefined && waiting.length === 1) setImmediate(() => underWay === undefined && next());
    },
    get droppedCount() {
      return droppedCount;
    },
    flushSync() {
      // Bytes that the system holds already would be printed twice, so they are left to it: it finishes them at exit.
      const begun = isWriting ? undefined : underWay?.bytes;
      const bytes = Buffer.concat([begun ?? Buffer.alloc(0), Buffer.from(waiting.join(''))]);
      if (!isWriting) underWay = undefined;
      waiting = [];
      waitingBytes = 0;
      try {
        for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(writeSync(fd, rest));
      } catch {
        // Nobody is left to tell, and the process is ending.
      }
    },
  };
}

function isBusy(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EAGAIN' || error.code === 'EBUSY';
}
