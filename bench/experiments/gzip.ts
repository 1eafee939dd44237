/**
 * What does gzip make of 500 KB of JSON and of 100 KB of raw tensor, what does it cost, and does gRPC do it unasked?
 *
 * One experiment of `run.ts`. zlib at its default level, on one thread, in milliseconds of CPU. Four kinds of content, because
 * that decides: random normal numbers (as the article's script makes them, and an embedding's are much like them), a photograph's
 * pixels, the same scaled to 0..1 as a model takes them, and token ids.
 */
import { once } from 'node:events';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import sharp from 'sharp';
import type { ExperimentResult } from '../../src/bench/results.js';
import { channelCaller } from './callers.js';
import { byTurns, cpuTimeOf, type ExperimentContext, randomNormal, type Sample } from './experiment.js';
import { shortest } from './payloads.js';

const KB = 1024;
const JSON_BYTES = 500 * KB;
const RAW_BYTES = 100 * KB;
const PICTURE = join(import.meta.dirname, '../../models/image-classification/sample.jpg');

export async function gzip({ quick, say }: ExperimentContext): Promise<ExperimentResult> {
  const forMs = quick ? 20 : 100;
  const figures: Record<string, number> = {};
  const bodies: Record<string, Buffer> = {};
  for (const [name, { numbers, raw }] of Object.entries(await contents())) {
    // Grown until it has the article's size: how many numbers that takes differs from content to content.
    let text = '';
    for (let i = 0; text.length < JSON_BYTES; i += 1000) text += `${numbers(i, i + 1000).join(',')},`;
    bodies[`${name}_json`] = Buffer.from(`{"data":[${text.slice(0, JSON_BYTES - 11)}]}`);
    bodies[`${name}_raw`] = raw.subarray(0, RAW_BYTES);
  }
  const arms: Record<string, () => Promise<Sample>> = {};
  for (const [name, body] of Object.entries(bodies)) {
    const small = gzipSync(body);
    figures[`${name}_bytes`] = body.length;
    figures[`${name}_gzip_bytes`] = small.length;
    arms[name] = async () => ({
      deflate_ms: cpuTimeOf(() => gzipSync(body), forMs),
      inflate_ms: cpuTimeOf(() => gunzipSync(small), forMs),
    });
    say(`${name.padEnd(12)} ${(body.length / KB).toFixed(0)} KB -> ${(small.length / KB).toFixed(0)} KB`);
  }
  Object.assign(figures, await byTurns(arms, { rounds: quick ? 1 : 3 }), await unasked());
  return {
    name: 'gzip',
    figures,
    method:
      '500 KB of JSON and 100 KB of raw tensor through zlib at its default level, one thread: random normal doubles in 17 digits ' +
      "(raw: FP32), the same numbers as FP32 in the fewest digits, a photograph's bytes, those as FP32 from 0 to 1, " +
      'token ids as INT64, drawn so that frequent ones are frequent. And what a stock grpc-js client sends when nobody asks it to compress.',
  };
}

interface Content {
  /** Numbers `from` to `to` of an endless repetition, as they stand in JSON. */
  readonly numbers: (from: number, to: number) => readonly (number | string)[];
  readonly raw: Buffer;
}

async function contents(): Promise<Record<string, Content>> {
  const normal = randomNormal(RAW_BYTES);
  const fp32 = Float32Array.from(normal);
  const printed = shortest(fp32.subarray(0, 60_000));
  const { data } = await sharp(PICTURE).resize(224, 224).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const scaled = Float32Array.from(data, (pixel) => pixel / 255);
  const scaledPrinted = shortest(scaled);
  const uniform = randomNormal(RAW_BYTES, 7);
  // Frequency falls with the rank, as words' does: exponential in a normal number.
  const ids = BigInt64Array.from(uniform, (value) => BigInt(Math.floor(Math.exp(Math.abs(value) * 3)) % 30_522));
  const around = (all: ArrayLike<number | bigint>) => (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => String(all[(from + i) % all.length]));
  return {
    normal: { numbers: around(normal), raw: bytes(fp32) },
    shortest: { numbers: around(printed), raw: bytes(fp32) },
    pixels: { numbers: around(data), raw: data },
    scaled: { numbers: around(scaledPrinted), raw: bytes(scaled) },
    ids: { numbers: around(ids), raw: bytes(ids) },
  };
}

function bytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}

/** What a stock client sends: 1 where it says or does something about compressing the message, and its bytes. */
async function unasked(): Promise<Record<string, number>> {
  const message = Buffer.alloc(10 * KB);
  const server = createServer();
  const seen: { encoding?: string | undefined; body: Buffer } = { body: Buffer.alloc(0) };
  server.on('stream', async (stream, headers) => {
    seen.encoding = headers['grpc-encoding'] as string | undefined;
    seen.body = Buffer.concat(await stream.toArray());
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' }, { endStream: false });
    // One empty message, or a unary call has failed.
    stream.end(Buffer.alloc(5));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const caller = channelCaller({ port: (server.address() as AddressInfo).port });
  try {
    // Compresses to a hundredth where anything compresses it.
    await caller.call('/any.Service/Any', message).catch(() => undefined);
    const compressed = seen.body[0] === 1 || (seen.encoding !== undefined && seen.encoding !== 'identity');
    return {
      grpc_unasked_compressed: compressed ? 1 : 0,
      grpc_unasked_bytes: seen.body.length,
      grpc_unasked_message_bytes: message.length,
    };
  } finally {
    caller.close();
    server.close();
  }
}
