/**
 * The closed-loop clients of `servers/clients.ts`, from the side of a bench: starts their process, and asks it for one load at a time.
 *
 * Used by the benches whose requests differ from each other.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { converse } from './conversation.js';
import { GRPC_HEADERS, probeGrpc, probeHttp } from './probe.js';
import { BenchError } from './result.js';
import type { ClientGroup, ClientsReply, ClientsRequest, GroupReply } from './servers/clients.js';

export interface LoadedGroup extends GroupReply {
  readonly perSecond: number;
}

export interface Clients {
  /** Throws BenchError unless every request was answered rightly. */
  load(groups: readonly ClientGroup[], seconds: number): Promise<Record<string, LoadedGroup>>;
  end(): void;
}

export function startClients(): Clients {
  const conversation = converse<ClientsRequest, ClientsReply>('servers/clients.ts');
  return {
    async load(groups, seconds) {
      const { problem, groups: answers, seconds: took } = await conversation.ask({ groups, ms: seconds * 1000 });
      if (problem !== undefined) throw new BenchError(problem);
      return Object.fromEntries(
        Object.entries(answers).map(([name, group]) => [name, { ...group, perSecond: group.answered / took }]),
      );
    },
    end: conversation.end,
  };
}

export interface GroupOptions {
  readonly name: string;
  /** Where the file of bodies may lie. */
  readonly directory: string;
  readonly origin: string;
  readonly path: string;
  readonly clients: number;
  readonly pauseMs?: number;
}

/** Clients that send these framed messages; each is asked once, and all replies must be of one size. */
export async function grpcGroup(options: GroupOptions, bodies: readonly Uint8Array[]): Promise<ClientGroup> {
  const { origin, path } = options;
  const replies = [];
  for (const body of bodies) replies.push(await probeGrpc(origin, path, body));
  return { ...group(options, bodies, replies), protocol: 'h2', headers: GRPC_HEADERS };
}

/** As grpcGroup, over REST. */
export async function restGroup(
  options: GroupOptions,
  bodies: readonly { readonly body: Uint8Array; readonly headers: Readonly<Record<string, string>> }[],
): Promise<ClientGroup> {
  const { origin, path } = options;
  const replies = [];
  for (const { body, headers } of bodies) replies.push(await probeHttp(origin + path, headers, body));
  const sent = bodies.map(({ body }) => body);
  const ownHeaders = bodies.map(({ headers }) => headers);
  return { ...group(options, sent, replies), protocol: 'h1', headers: {}, ownHeaders };
}

function group(
  { name, directory, origin, path, clients, pauseMs = 0 }: GroupOptions,
  bodies: readonly Uint8Array[],
  replies: readonly Uint8Array[],
) {
  const sizes = new Set(replies.map((reply) => reply.length));
  if (sizes.size !== 1) throw new BenchError(`${name}: replies of ${[...sizes].join(', ')} bytes, expected one size`);
  const bodiesFile = join(directory, `${name}.bodies`);
  writeFileSync(bodiesFile, Buffer.concat(bodies));
  let end = 0;
  const ends = bodies.map((body) => (end += body.length));
  return { name, origin, path, clients, pauseMs, bodiesFile, ends, replyBytes: replies[0]!.length };
}
