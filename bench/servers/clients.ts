/**
 * Closed-loop clients in a process of their own: each sends the next request when the last one is answered, chosen from prepared
 * bodies by a sequence of its own that is the same in every run.
 *
 * Started by `bench/clients.ts` and driven over IPC: a ClientsRequest in, a ClientsReply out. h2load sends one body over and over;
 * these mix many. Every reply is checked for its status, and for its size where that is known.
 */
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';

/** Clients that ask the same kind of thing. */
export interface ClientGroup {
  readonly name: string;
  /** gRPC over HTTP/2, or REST over HTTP/1.1. */
  readonly protocol: 'h2' | 'h1';
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly clients: number;
  /** Bodies one behind the other, and where each ends. */
  readonly bodiesFile: string;
  readonly ends: readonly number[];
  /** Headers that differ from body to body. */
  readonly ownHeaders?: readonly Readonly<Record<string, string>>[];
  /** Bytes of every reply. */
  readonly replyBytes: number;
  /** Rest between an answer and the next request. */
  readonly pauseMs?: number;
}

export interface ClientsRequest {
  readonly groups: readonly ClientGroup[];
  readonly ms: number;
}

export interface GroupReply {
  readonly answered: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How often each body was sent. */
  readonly sent: readonly number[];
}

export interface ClientsReply {
  readonly seconds: number;
  readonly groups: Readonly<Record<string, GroupReply>>;
  /** The first thing that was wrong. */
  readonly problem?: string;
}

const STREAMS_PER_CONNECTION = 8;

type Send = (body: Buffer, headers: Readonly<Record<string, string>>) => Promise<number>;

const files = new Map<string, Buffer>();
const sessions = new Map<string, ClientHttp2Session>();
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

process.on('message', async (request: ClientsRequest) => process.send!(await run(request)));
process.once('disconnect', () => process.exit(0));
process.send!('ready');

async function run({ groups, ms }: ClientsRequest): Promise<ClientsReply> {
  const began = performance.now();
  const until = began + ms;
  const latencies = new Map<string, number[]>();
  const sent = new Map<string, number[]>();
  let problem: string | undefined;
  await Promise.all(
    groups.map(async (group) => {
      const bodies = bodiesOf(group);
      const times: number[] = [];
      const counts = new Array<number>(bodies.length).fill(0);
      latencies.set(group.name, times);
      sent.set(group.name, counts);
      const client = async (number: number): Promise<void> => {
        const send = group.protocol === 'h2' ? overHttp2(group, number) : overHttp1(group);
        let state = (number + 1) * 2_654_435_761;
        while (performance.now() < until && problem === undefined) {
          state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
          const index = Math.floor((state / 2 ** 32) * bodies.length);
          const start = performance.now();
          try {
            const bytes = await send(bodies[index]!, { ...group.headers, ...group.ownHeaders?.[index] });
            if (bytes !== group.replyBytes) problem ??= `${group.name}: a reply of ${bytes} bytes`;
          } catch (error) {
            problem ??= `${group.name}: ${error instanceof Error ? error.message : error}`;
          }
          times.push(performance.now() - start);
          counts[index]!++;
          if (group.pauseMs) await new Promise((resolve) => setTimeout(resolve, group.pauseMs));
        }
      };
      await Promise.all(Array.from({ length: group.clients }, (_, number) => client(number)));
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  const replies = groups.map(({ name }) => [name, summary(latencies.get(name)!, sent.get(name)!)] as const);
  return { seconds, groups: Object.fromEntries(replies), ...(problem !== undefined && { problem }) };
}

function summary(times: number[], sent: number[]): GroupReply {
  const sorted = times.sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { answered: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), sent };
}

function bodiesOf({ bodiesFile, ends }: ClientGroup): Buffer[] {
  let file = files.get(bodiesFile);
  if (!file) {
    file = readFileSync(bodiesFile);
    files.set(bodiesFile, file);
  }
  return ends.map((end, i) => file.subarray(ends[i - 1] ?? 0, end));
}

function overHttp2({ name, origin, path }: ClientGroup, number: number): Send {
  const key = `${origin} ${name} ${Math.floor(number / STREAMS_PER_CONNECTION)}`;
  let session = sessions.get(key);
  if (!session) {
    session = connect(origin);
    session.on('error', () => {});
    // Not seen by the streams where it is the connection that ends.
    session.once('close', () => sessions.delete(key));
    sessions.set(key, session);
  }
  return (body, headers) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':method': 'POST', ':path': path, ...headers });
      let bytes = 0;
      let status: unknown;
      let details: unknown;
      const take = (received: Record<string, unknown>): void => {
        status = received['grpc-status'] ?? status;
        details = received['grpc-message'] ?? details;
      };
      stream.on('response', take);
      stream.on('trailers', take);
      stream.on('data', (chunk: Buffer) => (bytes += chunk.length));
      stream.once('error', reject);
      stream.once('close', () => {
        if (status === '0') resolve(bytes);
        else reject(new Error(`grpc-status ${status}: ${decodeURIComponent(String(details))}`));
      });
      stream.end(body);
    });
}

function overHttp1({ origin, path }: ClientGroup): Send {
  return (body, headers) =>
    new Promise((resolve, reject) => {
      const sent = httpRequest(
        origin + path,
        { method: 'POST', agent, headers: { ...headers, 'content-length': body.length } },
        (response) => {
          let bytes = 0;
          let text = '';
          response.on('data', (chunk: Buffer) => {
            bytes += chunk.length;
            if (response.statusCode !== 200) text += chunk;
          });
          response.once('error', reject);
          response.once('end', () => {
            if (response.statusCode === 200) resolve(bytes);
            else reject(new Error(`status ${response.statusCode}: ${text.slice(0, 300)}`));
          });
        },
      );
      sent.once('error', reject);
      sent.end(body);
    });
}
