/**
 * Structured logs: one line per event on stderr, JSON for machines or text for people. stdout is the banner's alone.
 *
 * Called by `main.ts` and `server.ts`, which hand the `Log` down; the one home of pino. Owns stderr's line sink. Lines say what
 * happened in `message`, and all that varies in fields. Must not throw or block, whatever becomes of the reader.
 */

import { pino, stdSerializers } from 'pino';
import { createLineSink } from './log-sink.js';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
export type LogFields = Readonly<Record<string, unknown>>;

/** What every layer may know of the log. A field named `error` may hold a caught value: it is written with its stack. */
export interface Log {
  trace(fields: LogFields, message: string): void;
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** A log whose lines all carry these fields too. */
  child(fields: LogFields): Log;
}

/** The log of the process, which can be asked and ended. */
export interface RootLog extends Log {
  /** Lines that the reader did not take, because it was gone, full or asleep. */
  readonly droppedCount: number;
  /** Writes what still waits; happens by itself at exit. */
  flush(): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** `auto`: text where stderr is a terminal, JSON elsewhere. */
  readonly format: 'auto' | 'text' | 'json';
  /** A file descriptor other than stderr's. */
  readonly fd?: number;
}

/** Creates the log of this process. Waiting lines are written at exit. */
export function createLog({ level, format, fd = 2 }: LogOptions): RootLog {
  const sink = createLineSink(fd);
  const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY === true);
  const destination = isText ? { write: (line: string) => sink.write(textLine(line)) } : sink;
  const logger = pino(
    {
      level,
      messageKey: 'message',
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: stdSerializers.err },
    },
    destination,
  );
  process.once('exit', () => sink.flushSync());
  return {
    ...narrow(logger),
    get droppedCount() {
      return sink.droppedCount;
    },
    flush: () => sink.flushSync(),
  };
}

type Pino = Pick<pino.Logger, 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'bindings'> & {
  child(fields: LogFields): Pino;
};

/** pino's logger can do more than the layers should rely on. */
function narrow(logger: Pino): Log {
  return {
    trace: (fields, message) => logger.trace(fields, message),
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    child: (fields) => narrow(logger.child(fields)),
  };
}

/** `2026-01-31T12:00:00.000Z info  model loaded model="digits" ms=12`, then a caught error's stack on lines of its own. */
function textLine(json: string): string {
  const { level, time, pid, message, error, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  const { stack, message: reason } = (error ?? {}) as { stack?: string; message?: string };
  const trace = error === undefined ? '' : `\n    ${String(stack ?? reason ?? error).replaceAll('\n', '\n    ')}`;
  return `${time} ${String(level).padEnd(5)} ${message}${pairs.join('')}${trace}\n`;
}

/**
 * Keeps stdout and stderr from killing the process: a Node stream without an 'error' listener throws when its reader dies
 * (EPIPE) or its disk is full (ENOSPC). Returns the number of failed writes so far. Call it once, first of all.
 */
export function guardStandardStreams(): () => number {
  let failedCount = 0;
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => failedCount++);
  return () => failedCount;
}
