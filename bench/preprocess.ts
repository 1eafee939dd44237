/**
 * Do texts and pictures hold up the main thread?
 *
 * Texts of 64 KB and JPEGs of 4 megapixels arrive over gRPC (raw) and REST (binary), from several clients each, while another asks
 * something small all the time. The server's event loop is watched from within its process (`servers/stalls.ts`). Texts alone and
 * pictures alone say what each costs the main thread, beside what it costs the threads that tokenize and decode.
 */

import { request } from 'node:http';
import { join } from 'node:path';
import sharp from 'sharp';
import { median } from '../src/bench/statistics.js';
import { writeImageModel, writeTextModel } from '../test/support/huggingface.js';
import { addSubModel, writeModel } from '../test/support/onnx.js';
import { VOCABULARY } from '../test/support/wordpiece.js';
import { type Clients, grpcGroup, type LoadedGroup, restGroup, startClients } from './clients.js';
import { grpcContentBody, restContentBody } from './content-body.js';
import { grpcFrame, MODEL_INFER } from './grpc-body.js';
import { startTensorwire, workDirectory } from './peer.js';
import { cpuTime } from './process-cpu.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';
import type { ClientGroup } from './servers/clients.js';
import type { Stall, Stalls } from './servers/stalls.js';

const TEXT_BYTES = 65_536;
const TEXTS = 8;
const WIDTH = 2304;
const HEIGHT = 1728;
const PICTURES = 6;
/** Of each kind and protocol. */
const CLIENTS = 2;

/** What arrives; nothing in `idle`, so that the cost of watching can be taken off, and small requests too in `both`. */
type Arm = 'idle' | 'text' | 'picture' | 'both';

export const preprocess: Bench = {
  name: 'preprocess',
  question: "the main thread's longest stall while 64 KB texts and 4-megapixel JPEGs arrive",
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const timing = quick ? { rounds: 2, seconds: 3 } : { rounds: 6, seconds: 5 };
  const directory = workDirectory();
  writeModels(directory);
  const socket = join(workDirectory(), 'stalls');
  const flag = `--import=${new URL('./servers/stalls.ts', import.meta.url).href}`;
  const env = { NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} ${flag}`, TENSORWIRE_BENCH_STALLS: socket };
  const { server, pid, stop } = await startTensorwire(directory, [], env);
  const clients = startClients();
  try {
    const origins = { grpc: `http://127.0.0.1:${server.grpcPort}`, rest: `http://127.0.0.1:${server.httpPort}` };
    const groups = await prepare(origins);
    const { text, picture, probe } = groups;
    const arms: Record<Arm, readonly ClientGroup[]> = { idle: [], text, picture, both: [...text, ...picture, probe] };
    const results: Record<Arm, Measured[]> = { idle: [], text: [], picture: [], both: [] };
    for (let round = -1; round < timing.rounds; round++) {
      for (const arm of Object.keys(arms) as Arm[]) {
        const measured = await measure({ clients, groups: arms[arm], pid, socket, ...timing });
        if (round < 0) continue;
        results[arm].push(measured);
        say(`${arm.padEnd(8)} ${describe(measured)}`);
      }
    }
    return figures(results);
  } finally {
    clients.end();
    await stop();
  }
}

function writeModels(directory: string): void {
  const config = 'max_batch_size: 16\ndynamic_batching { }\n';
  writeTextModel(directory, 'text', { head: 'classifier', maxTokens: 512, config });
  writeImageModel(directory, 'image', { preprocessor: { size: { height: 224, width: 224 } }, config });
  writeModel(directory, 'small', { config, versions: { 1: addSubModel('INT32', [16]) } });
}

async function prepare(origins: { grpc: string; rest: string }) {
  const directory = workDirectory();
  const texts = Array.from({ length: TEXTS }, (_, i) => longText(i));
  const pictures = await Promise.all(Array.from({ length: PICTURES }, (_, i) => picture(i)));
  const bytes = pictures.map(({ length }) => `${(length / 1e6).toFixed(1)}`).join(' ');
  say(`${TEXTS} texts of ${TEXT_BYTES} bytes, ${PICTURES} JPEGs of ${WIDTH} x ${HEIGHT}, MB: ${bytes}`);
  say(`${CLIENTS} clients for each kind and protocol`);
  const kind = async (model: 'text' | 'image', contents: readonly Uint8Array[], output: string) => {
    const bodies = contents.map((content) => ({ model, input: model, elements: [content], output }));
    const options = { directory, clients: CLIENTS };
    return [
      await grpcGroup(
        { ...options, name: `${model} gRPC`, origin: origins.grpc, path: MODEL_INFER },
        bodies.map(grpcContentBody),
      ),
      await restGroup(
        { ...options, name: `${model} REST`, origin: origins.rest, path: `/v2/models/${model}/infer` },
        bodies.map(restContentBody),
      ),
    ];
  };
  const tensor = Buffer.alloc(64, 1);
  const inputs = ['INPUT0', 'INPUT1'].map((name) => ({ name, datatype: 'INT32', shape: [1, 16] }));
  const small = grpcFrame({ modelName: 'small', inputs, rawInputContents: [tensor, tensor] });
  const probe = { name: 'probe', directory, origin: origins.grpc, path: MODEL_INFER, clients: 1, pauseMs: 5 };
  return {
    text: await kind('text', texts, 'logits'),
    picture: await kind('image', pictures, 'means'),
    probe: await grpcGroup(probe, [small]),
  };
}

/** Words of several scripts, of TEXT_BYTES bytes. */
function longText(seed: number): Buffer {
  const words = VOCABULARY.filter((piece) => !piece.startsWith('##') && !piece.startsWith('['));
  const text = Buffer.alloc(TEXT_BYTES, '.');
  let state = seed + 1;
  for (let at = 0; at < TEXT_BYTES - 32; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const word = words[(state >>> 8) % words.length]!;
    // One in four is none of the vocabulary and falls into pieces.
    at += text.write(state >>> 30 === 0 ? `${word}Zq${state % 1000} ` : `${word} `, at);
  }
  return text;
}

/** A JPEG of soft colours with noise on them, 1 to 3 MB as from a camera. */
async function picture(seed: number): Promise<Buffer> {
  const pixels = Buffer.alloc(WIDTH * HEIGHT * 3);
  let state = seed + 1;
  for (let y = 0, at = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      const noise = (state >>> 26) - 32;
      pixels[at++] = Math.max(0, Math.min(255, 40 + (x * 180) / WIDTH + noise));
      pixels[at++] = Math.max(0, Math.min(255, 40 + (y * 180) / HEIGHT + noise));
      pixels[at++] = Math.max(0, Math.min(255, 128 + 80 * Math.sin((x + seed * 99) / 60) * Math.cos(y / 45) + noise));
    }
  }
  return sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
    .jpeg({ quality: 90 })
    .toBuffer();
}

interface Load {
  readonly clients: Clients;
  readonly groups: readonly ClientGroup[];
  readonly pid: number;
  readonly socket: string;
  readonly seconds: number;
}

interface Measured {
  readonly textsPerSecond: number;
  readonly picturesPerSecond: number;
  /** The small request that waited longest; 0 where there was none. */
  readonly probeMs: number;
  /** CPU of the main thread, and of all threads, in a second. */
  readonly mainUs: number;
  readonly totalUs: number;
  readonly stalls: Stalls;
}

async function measure({ clients, groups, pid, socket, seconds }: Load): Promise<Measured> {
  await stallsSince(socket);
  const before = cpuTime(pid);
  const began = performance.now();
  const answers = groups.length > 0 ? await clients.load(groups, seconds) : await nothing(seconds);
  const took = (performance.now() - began) / 1000;
  const after = cpuTime(pid);
  const stalls = await stallsSince(socket);
  const rate = (kind: string): number =>
    Object.entries(answers).reduce((sum, [name, group]) => sum + (name.startsWith(kind) ? group.perSecond : 0), 0);
  return {
    textsPerSecond: rate('text'),
    picturesPerSecond: rate('image'),
    probeMs: answers.probe?.maxMs ?? 0,
    mainUs: (after.mainUs - before.mainUs) / took,
    totalUs: (after.totalUs - before.totalUs) / took,
    stalls,
  };
}

async function nothing(seconds: number): Promise<Record<string, LoadedGroup>> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return {};
}

function describe({ textsPerSecond, picturesPerSecond, probeMs, mainUs, totalUs, stalls }: Measured): string {
  return [
    `texts/s ${textsPerSecond.toFixed(0)}, pictures/s ${picturesPerSecond.toFixed(0)}`,
    `stall ${describeStall(stalls.longest)}, p99 ${stalls.p99Ms.toFixed(1)}`,
    `longest run ${stalls.longestRunMs.toFixed(1)} ms`,
    `probe ${probeMs.toFixed(0)} ms`,
    `cores used ${(totalUs / 1e6).toFixed(2)}, by main ${(mainUs / 1e6).toFixed(2)}`,
  ].join('; ');
}

function describeStall({ ms, ranMs, waitedForCoreMs, blockedMs }: Stall): string {
  return `${ms.toFixed(1)} ms (ran ${ranMs.toFixed(1)}, no core ${waitedForCoreMs.toFixed(1)}, blocked ${blockedMs.toFixed(1)})`;
}

function figures(results: Record<Arm, readonly Measured[]>): Figures {
  const { idle, text, picture } = results;
  const loaded = [...text, ...picture, ...results.both];
  const of = (arm: readonly Measured[], value: (measured: Measured) => number): number => median(arm.map(value));
  const textRate = of(text, (m) => m.textsPerSecond);
  const pictureRate = of(picture, (m) => m.picturesPerSecond);
  /** CPU in a second beyond what watching takes. */
  const above = (arm: readonly Measured[], value: (measured: Measured) => number): number =>
    of(arm, value) - of(idle, value);
  return {
    main_stall_ms_max: Math.max(...loaded.map(({ stalls }) => stalls.longest.ms)),
    main_stall_ms_p99: Math.max(...loaded.map(({ stalls }) => stalls.p99Ms)),
    main_run_ms_max: Math.max(...loaded.map(({ stalls }) => stalls.longestRunMs)),
    texts_per_second: textRate,
    pictures_per_second: pictureRate,
    main_us_per_text: above(text, (m) => m.mainUs) / textRate,
    main_us_per_picture: above(picture, (m) => m.mainUs) / pictureRate,
    cpu_us_per_text: above(text, (m) => m.totalUs) / textRate,
    cpu_us_per_picture: above(picture, (m) => m.totalUs) / pictureRate,
  };
}

/** What the loop saw since the last call. */
function stallsSince(socketPath: string): Promise<Stalls> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: '/' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.once('end', () => resolve(JSON.parse(body) as Stalls));
    });
    sent.once('error', reject);
    sent.end();
  });
}
