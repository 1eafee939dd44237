/**
 * How far is REST with binary tensors from a bare node:http echo of the same body?
 *
 * Both answer the same requests in turns, 16 at a time over HTTP/1.1: tensorwire with an identity model and everything on, the echo
 * with the same V8 flags. The figure is CPU per request of the serving process.
 */
import { median } from '../src/bench/statistics.js';
import { identityModel, writeModel } from '../test/support/onnx.js';
import { pinnedTo, pinningSentence, SERVER_CPU } from './affinity.js';
import { bytesOf, floats } from './grpc-body.js';
import { type Arm, interleave, medianRatio, ratioSpan } from './interleave.js';
import { load, loadWithCpu, requestsFor, type Target } from './load.js';
import { bodyFile, servingFlags, startPeer, startTensorwire, workDirectory } from './peer.js';
import { assertBytes, probeHttp } from './probe.js';
import { binaryOutput, restBody } from './rest-body.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

const SIZES_KB = [2, 100, 1000];
const LOAD = { connections: 16, streams: 1, pin: true };

export const rest: Bench = {
  name: 'rest',
  question: 'CPU per REST request with binary tensors against a bare node:http echo of the same body',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const directory = workDirectory();
  const config = 'max_batch_size: 32\ndynamic_batching { }\n';
  writeModel(directory, 'identity', { config, versions: { 1: identityModel('FP32', ['n']) } });
  const timing = quick ? { rounds: 5, seconds: 0.4, warmUp: 8_000 } : { rounds: 11, seconds: 1, warmUp: 64_000 };
  const [tensorwire, echo] = await pinnedTo(SERVER_CPU, async () => [
    await startTensorwire(directory),
    await startPeer('servers/http-echo.ts', servingFlags()),
  ]);
  const figures: Record<string, number> = {};
  say(pinningSentence());
  say('  size      tensorwire (main thread)   echo   CPU us/request   ratio (span)');
  try {
    for (const kb of SIZES_KB) {
      const data = floats(kb * 250);
      const { body, headers } = restBody({ model: 'identity', shape: [1, data.length], data });
      const file = bodyFile(directory, `${kb}k`, body);
      const common = { protocol: 'h1', bodyFile: file, headers } as const;
      const url = `http://127.0.0.1:${tensorwire.server.httpPort}/v2/models/identity/infer`;
      const reply = await probeHttp(url, headers, body);
      assertBytes(`tensorwire, ${kb} KB`, binaryOutput(reply), bytesOf(data));
      const echoUrl = `http://127.0.0.1:${echo.port}/`;
      assertBytes(`echo, ${kb} KB`, await probeHttp(echoUrl, headers, body), body);
      const main: number[] = [];
      const cpu = await interleave(
        [
          await arm('tensorwire', {
            ...common,
            name: 'tensorwire',
            url,
            pid: tensorwire.pid,
            replyBytes: reply.length,
          }),
          await arm('echo', { ...common, name: 'echo', url: echoUrl, pid: echo.pid, replyBytes: body.length }),
        ],
        { rounds: timing.rounds, warmUp: 1 },
      );
      const ratio = medianRatio(cpu.tensorwire, cpu.echo);
      figures[`cpu_ratio_${kb}k`] = ratio;
      const us = (numbers: readonly number[]): string => median(numbers).toFixed(0).padStart(8);
      say(
        `${String(kb).padStart(6)} KB ${us(cpu.tensorwire)} ${`(${median(main).toFixed(0)})`.padStart(10)} ${us(cpu.echo)}   ${ratio.toFixed(2)} (${ratioSpan(cpu.tensorwire, cpu.echo)})`,
      );

      async function arm<Name extends string>(name: Name, target: Target): Promise<Arm<Name>> {
        if (kb === SIZES_KB[0]) await load(target, { ...LOAD, requests: timing.warmUp });
        const requests = await requestsFor(timing.seconds, target, LOAD);
        return {
          name,
          measure: async () => {
            const { cpuUs, mainUs } = await loadWithCpu(target, { ...LOAD, requests });
            if (name === 'tensorwire') main.push(mainUs);
            return cpuUs;
          },
        };
      }
    }
  } finally {
    await tensorwire.stop();
    await echo.stop();
  }
  return figures;
}
