/**
 * What a case of the catalogue is, and the ways to write one.
 *
 * Used by the files of cases; catalogue.test.ts runs them. Every error that comes back is scanned for what must not leave the server.
 */
import { homedir, tmpdir } from 'node:os';
import { expect } from 'vitest';
import type { Answer, GrpcOptions, RestOptions, World } from './world.js';

export interface Case {
  /** Row of the catalogue. */
  readonly row: string;
  /** What is sent, and what should come. */
  readonly name: string;
  run(world: World): Promise<void>;
}

/** An expected status or several, and what the error must say. */
export interface Expected {
  readonly status: number | readonly number[];
  readonly says?: RegExp;
  /** Text of the request that the error may repeat, whatever is in it. */
  readonly echo?: string;
}

/** Names of the codes that cases expect. */
export const OK = 0;
export const INVALID = 3;
export const DEADLINE = 4;
export const NOT_FOUND = 5;
export const EXHAUSTED = 8;
export const UNIMPLEMENTED = 12;
export const INTERNAL = 13;

/** A gRPC request that must end with `status`. The message is made when the case runs: some are large. */
export function grpcCase(
  row: string,
  name: string,
  message: () => Uint8Array,
  status: Expected['status'],
  says?: RegExp,
  options: GrpcOptions = {},
): Case {
  return {
    row,
    name: `${name} (gRPC)`,
    async run(world) {
      expectAnswer(await world.grpc(message(), options), { status, ...(says && { says }) });
    },
  };
}

/** A REST request that must end with `status`; `path` as in World.rest. */
export function restCase(
  row: string,
  name: string,
  path: string,
  body: (() => unknown) | undefined,
  status: Expected['status'],
  says?: RegExp,
  options: RestOptions = {},
): Case {
  return {
    row,
    name: `${name} (REST)`,
    async run(world) {
      expectAnswer(await world.rest(path, body?.(), options), { status, ...(says && { says }) });
    },
  };
}

/** Bytes on a bare connection to the REST port that must get exactly these statuses before the server closes. */
export function wireCase(
  row: string,
  name: string,
  parts: () => readonly (string | Uint8Array)[],
  statuses: readonly number[],
): Case {
  return {
    row,
    name: `${name} (HTTP/1.1)`,
    async run(world) {
      const reply = await world.wire(...parts());
      expect(reply.statuses).toEqual(statuses);
      for (const [, error] of reply.text.matchAll(/\{"error":"([^"]*)"\}/g)) expectClean(error!);
    },
  };
}

/** Anything else. */
export function special(row: string, name: string, run: (world: World) => Promise<void>): Case {
  return { row, name, run };
}

export function expectAnswer(answer: Answer, { status, says, echo }: Expected): void {
  const wanted = Array.isArray(status) ? (status as readonly number[]) : [status as number];
  expect(wanted, answer.message || 'no error').toContain(answer.status);
  if (says !== undefined) expect(answer.message).toMatch(says);
  if (answer.message !== '') expectClean(answer.message, echo);
}

/** Slashes that errors may hold: names of things, not places. */
const HARMLESS = /application\/json|multipart\/form-data|load \/ unload/g;

const LEAKS: readonly RegExp[] = [
  /\//,
  /\\\\|[A-Z]:\\/,
  /0x[0-9a-f]{4}/i,
  /\bat \S+ \(|\n\s*at /,
  /\.(cc|cpp|h|js|ts|mjs|onnx|so)\b/,
  /onnxruntime_src|node_modules|node:/,
  /Napi|protobufjs|piscina|fastify|SharedArrayBuffer/,
];

/** The text of an error names no place, address, source file or library, is short and has no control characters. */
export function expectClean(message: string, echo = ''): void {
  const text = message.replace(HARMLESS, '').replace(echo, '');
  for (const leak of LEAKS) expect(text).not.toMatch(leak);
  for (const place of [homedir(), tmpdir(), process.cwd()]) expect(message).not.toContain(place);
  expect(message.length).toBeLessThanOrEqual(900);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
  expect(text).not.toMatch(/[\u0000-\u001f\u007f]/);
}
