/**
 * Is REST with JSON as fast here as a REST service can be? Against a bare Fastify handler that parses and prints the same tensors.
 *
 * Both answer the same requests in turns over HTTP/1.1, 16 at a time and one after the other. Ours runs an identity model with everything
 * on; the handler computes nothing. Pinned to one CPU, so that parsing beside the main thread is no advantage in the figure.
 */
import { median } from '../src/bench/statistics.js';
import { identityModel, writeModel } from '../test/support/onnx.js';
import { pinnedTo, pinningSentence, SERVER_CPU } from './affinity.js';
import { floats } from './grpc-body.js';
import { interleave, medianRatio, ratioSpan } from './interleave.js';
import { type Concurrency, load, requestsFor, type Target } from './load.js';
import { bodyFile, servingFlags, startPeer, startTensorwire, workDirectory } from './peer.js';
import { probeHttp } from './probe.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';

const SIZES_KB = [2, 10, 100, 500, 1000];
const LOADS: readonly { readonly name: string; readonly in: Concurrency }[] = [
  { name: 'at 16', in: { connections: 16, streams: 1 } },
  { name: 'alone', in: { connections: 1, streams: 1 } },
];
const HEADERS = { 'content-type': 'application/json' };

export const restJson: Bench = {
  name: 'rest-json',
  question: 'Time of a REST request in JSON against a bare Fastify handler doing JSON.parse and JSON.stringify',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const directory = workDirectory();
  const config = 'max_batch_size: 32\ndynamic_batching { }\n';
  writeModel(directory, 'identity', { config, versions: { 1: identityModel('FP32', ['n']) } });
  const timing = quick ? { rounds: 3, seconds: 0.3, warmUp: 4_000 } : { rounds: 9, seconds: 0.8, warmUp: 32_000 };
  const [tensorwire, bare] = await pinnedTo(SERVER_CPU, async () => [
    await startTensorwire(directory),
    await startPeer('servers/fastify-json.ts', servingFlags()),
  ]);
  const figures: Record<string, number> = {};
  say(pinningSentence());
  say('  size           tensorwire    Fastify   us/request   ratio (span)');
  try {
    for (const kb of SIZES_KB) {
      const data = Array.from(floats(kb * 256));
      const body = Buffer.from(
        JSON.stringify({ inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, data.length], data }] }),
      );
      const file = bodyFile(directory, `${kb}k-json`, body);
      const target = async (name: string, pid: number, port: number): Promise<Target> => {
        const url = `http://127.0.0.1:${port}/v2/models/identity/infer`;
        const reply = await probeHttp(url, HEADERS, body);
        assertSame(name, reply, data);
        return { name, url, pid, protocol: 'h1', bodyFile: file, headers: HEADERS, replyBytes: reply.length };
      };
      const ours = await target('tensorwire', tensorwire.pid, tensorwire.server.httpPort);
      const theirs = await target('Fastify', bare.pid, bare.port);
      for (const { name, in: concurrency } of LOADS) {
        const options = { ...concurrency, pin: true };
        const measured = await interleave(await [await arm(ours, options), await arm(theirs, options)], {
          rounds: timing.rounds,
          warmUp: 1,
        });
        const [own, other] = [measured[ours.name]!, measured[theirs.name]!];
        figures[`time_ratio_${kb}k${name === 'alone' ? '_alone' : ''}`] = medianRatio(own, other);
        const us = (numbers: readonly number[]): string => median(numbers).toFixed(0).padStart(10);
        const ratio = `${medianRatio(own, other).toFixed(2)} (${ratioSpan(own, other)})`;
        say(`${String(kb).padStart(6)} KB ${name}  ${us(own)} ${us(other)}                ${ratio}`);
      }

      async function arm(one: Target, options: Concurrency & { pin: boolean }) {
        if (kb === SIZES_KB[0]) await load(one, { ...options, requests: timing.warmUp });
        const requests = await requestsFor(timing.seconds, one, options);
        // What a client sees of the time: at 16 it is the inverse of the throughput.
        return {
          name: one.name,
          measure: async () => 1e6 / (await load(one, { ...options, requests })).requestsPerSecond,
        };
      }
    }
  } finally {
    await tensorwire.stop();
    await bare.stop();
  }
  return figures;
}

/** Throws unless the reply holds the numbers that were sent, as float32. */
function assertSame(name: string, reply: Buffer, sent: readonly number[]): void {
  const { outputs } = JSON.parse(reply.toString()) as { outputs: { data: number[] }[] };
  const got = outputs[0]!.data;
  const at = sent.findIndex((number, i) => Math.fround(got[i]!) !== Math.fround(number));
  if (got.length !== sent.length || at >= 0) {
    throw new BenchError(`${name}: ${got.length} numbers came back of ${sent.length}, the first other one at ${at}`);
  }
}
