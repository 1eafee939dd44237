/**
 * What a server says of itself and of a model, over either door.
 *
 * Called by `command.ts` before the load. Over REST it asks by itself, as the client of the package knows no prefix of paths.
 */
import { Agent, request } from 'undici';
import { createGrpcClient } from '../client/grpc-client.js';
import { modelPath, parseModelMetadata, parseServerMetadata } from '../client/rest-metadata.js';
import { messageOf } from '../client/rest-status.js';
import type { ModelMetadata, ServerMetadata } from '../client/types.js';
import { BenchError, SilenceError } from './bench-error.js';
import type { LoadTarget } from './load-types.js';

export interface Description {
  readonly server: ServerMetadata;
  /** Undefined where no model was asked about. */
  readonly model: ModelMetadata | undefined;
}

export interface DescribedModel {
  readonly name: string;
  readonly version: string | undefined;
}

/**
 * Asks every door, so that one that is closed is found before the load; waits `timeoutMs` for each answer. Throws BenchError naming the
 * door.
 */
export async function describeServer(
  { grpc, http }: LoadTarget,
  model: DescribedModel | undefined,
  timeoutMs: number,
): Promise<Description> {
  const overGrpc =
    grpc && (await atDoor(`--grpc ${grpc.address}`, () => describeByGrpc(grpc, model, timeoutMs), timeoutMs));
  const overHttp =
    http && (await atDoor(`--http ${http.url}`, () => describeByRest(http, model, timeoutMs), timeoutMs));
  return (overGrpc ?? overHttp)!;
}

async function atDoor(door: string, ask: () => Promise<Description>, timeoutMs: number): Promise<Description> {
  try {
    return await ask();
  } catch (error) {
    const { name, message, code } = error as Error & { code?: string };
    if (code === 'DEADLINE_EXCEEDED' || /^UND_ERR_\w+_TIMEOUT$/.test(code ?? '')) {
      throw new SilenceError(`${door}: no answer within ${timeoutMs / 1000} s`);
    }
    const words = message.replaceAll(/\s+/g, ' ').trim();
    // What parsers of one protocol say of the other's bytes; node:http2 puts the time behind it, OpenSSL a file of its sources.
    if (name === 'HTTPParserError') throw new BenchError(`${door}: no HTTP/1.1 there; is it the port for gRPC?`);
    if (/: Protocol error\b/.test(words)) throw new BenchError(`${door}: no HTTP/2 there; is it the port for REST?`);
    if (words.includes('wrong version number')) throw new BenchError(`${door}: no TLS there; is it a plain port?`);
    const hint = /unable to (?:verify|get)|self.signed/.test(words)
      ? "; --ca takes the PEM of who signed the server's certificate"
      : '';
    throw new BenchError(`${door}: ${words}${hint}`);
  }
}

async function describeByGrpc(
  { address, tls }: NonNullable<LoadTarget['grpc']>,
  model: DescribedModel | undefined,
  timeoutMs: number,
): Promise<Description> {
  const client = createGrpcClient({
    protocol: 'grpc',
    addresses: [address],
    timeoutMs,
    retry: { attempts: 1 },
    ...(tls !== undefined && { tls }),
  });
  try {
    const server = await client.serverMetadata();
    return { server, model: model && (await client.modelMetadata(model.name, model.version)) };
  } finally {
    await client.close();
  }
}

async function describeByRest(
  { url, tls }: NonNullable<LoadTarget['http']>,
  model: DescribedModel | undefined,
  timeoutMs: number,
): Promise<Description> {
  const { ca, cert, key, serverName } = tls ?? {};
  const pem = (value: Uint8Array | string | undefined) => (value === undefined ? undefined : Buffer.from(value));
  const agent = new Agent({
    connect: {
      timeout: timeoutMs,
      ...(ca !== undefined && { ca: pem(ca) }),
      ...(cert !== undefined && { cert: pem(cert), key: pem(key) }),
      ...(serverName !== undefined && { servername: serverName }),
    },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });
  const get = async (path: string): Promise<Buffer> => {
    const { statusCode, headers, body } = await request(`${url}${path}`, { dispatcher: agent });
    const bytes = Buffer.from(await body.arrayBuffer());
    if (statusCode === 200) return bytes;
    throw new BenchError(messageOf(statusCode, String(headers['content-type'] ?? ''), bytes));
  };
  try {
    const server = parseServerMetadata(await get('/v2'));
    if (model === undefined) return { server, model };
    return { server, model: parseModelMetadata(await get(modelPath(model.name, model.version, ''))) };
  } finally {
    await agent.close();
  }
}
