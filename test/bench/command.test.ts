/** `tensorwire bench` as users run it, against a real server: what it prints, writes and says when it can't. */
import { type ChildProcess, execFile } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BenchResults } from '../../src/bench/results.js';
import { temporaryDirectory } from '../support/engine.js';
import { addSubModel, gatherModel, identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { ANSWER, type OddServer, startOddServer } from './echo.js';

const MAIN = join(import.meta.dirname, '../../dist/main.js');
const SHORT = ['--duration', '0.05', '--rounds', '1', '--concurrency', '2'];

let server: TestServer;
let doors: string[];
let out: string;

beforeAll(async () => {
  const repository = temporaryDirectory();
  const versions = (model: Uint8Array) => ({ config: 'max_batch_size: 0\n', versions: { 1: model } });
  writeModel(repository, 'identity', versions(identityModel('FP32', ['n'], { batching: false })));
  writeModel(repository, 'fixed', versions(addSubModel('INT32', [16], { batching: false })));
  const small = { config: 'max_batch_size: 2\n', versions: { 1: addSubModel() } };
  writeModel(repository, 'batched', small);
  writeModel(repository, 'gather', versions(gatherModel()));
  server = await startServer({ repository });
  doors = ['--grpc', `127.0.0.1:${server.grpcPort}`, '--http', `http://127.0.0.1:${server.httpPort}`];
  out = join(temporaryDirectory(), 'reports');
});

afterAll(() => server.stop());

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function startBench(args: readonly string[], onEnd: (ended: Ended) => void): ChildProcess {
  return execFile(process.execPath, [MAIN, 'bench', ...args], (error, stdout, stderr) =>
    onEnd({ code: Number(error?.code ?? 0), stdout, stderr }),
  );
}

function bench(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => startBench(args, resolve));
}

test('all arms are measured, told and written, and the verdict comes last', async () => {
  const args = ['--model', 'identity', '--sizes', '2,20', '--rate', '50', '--gzip', '--out', out, ...SHORT];
  const { code, stdout, stderr } = await bench(...doors, ...args);
  expect(stderr).toContain('0 of 32 cells: identity 2 KB, 2 at a time, warm-up');
  expect(code).toBe(0);
  expect(stdout.indexOf('Verdict')).toBeGreaterThan(stdout.indexOf('grpc_typed+gzip'));
  const results = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as BenchResults;
  expect(results.cells).toHaveLength(2 * 8 * 2);
  for (const cell of results.cells) {
    expect(cell.requests).toBeGreaterThan(0);
    expect(cell.failures).toBe(0);
    expect(cell.answersEqual).toBe(true);
    expect(cell.requestTensorBytes).toBe(cell.payloadKb! * 1024);
    expect(cell.serverDecodeMs).not.toBeNull();
    expect(cell.serverCpuUs).toBeNull();
  }
  expect(results.environment.server.name).toBe('tensorwire');
  expect(results.command).toMatch(/^tensorwire bench --grpc 127\.0\.0\.1:\d+ --http http:.* --model identity /);
  const report = readFileSync(join(out, 'report.md'), 'utf8');
  const plots = readdirSync(join(out, 'plots'));
  expect(plots.length).toBeGreaterThan(0);
  for (const plot of plots) expect(report).toContain(`plots/${plot}`);
});

test('one door is enough, and JSON is for programs', async () => {
  const { code, stdout } = await bench(doors[2]!, doors[3]!, '--model', 'fixed', '--json', ...SHORT);
  expect(code).toBe(0);
  const { cells, verdict } = JSON.parse(stdout) as BenchResults & { verdict: { recommendations: unknown[] } };
  expect(cells.map(({ arm, payloadKb }) => [arm.encoding, payloadKb])).toEqual([
    ['rest_json', null],
    ['rest_binary', null],
  ]);
  expect(verdict.recommendations).toHaveLength(1);
});

test('a model that refuses made inputs is said so, with what to do', async () => {
  const { code, stderr } = await bench(...doors, '--model', 'gather', '--sizes', '2', ...SHORT);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^tensorwire bench: gather 2 KB is refused: .*--input.*--shape\n$/);
});

test('a model that refuses large batches is asked with the smallest, and the report says so', async () => {
  const { code, stdout } = await bench(...doors, '--model', 'batched', '--json', ...SHORT);
  expect(code).toBe(0);
  const { cells, notes } = JSON.parse(stdout) as BenchResults;
  expect(cells.map(({ payloadKb, requestTensorBytes }) => [payloadKb, requestTensorBytes])).toEqual(
    Array(4).fill([null, 2 * 64]),
  );
  expect(notes).toContainEqual(
    expect.stringMatching(/^Requests are of the smallest shapes, as others were refused: .*batch-size must be <= 2/),
  );
});

test('a request from a file is sent as it is', async () => {
  const file = join(temporaryDirectory(), 'request.json');
  const input = { name: 'INPUT0', datatype: 'INT64', shape: [1, 3], data: [7, 0, 9] };
  writeFileSync(file, JSON.stringify({ inputs: [input] }));
  const { code, stdout } = await bench(...doors, '--model', 'gather', '--input', file, '--json', ...SHORT);
  expect(code).toBe(0);
  const { cells } = JSON.parse(stdout) as BenchResults;
  expect(cells.map(({ requestTensorBytes, responseTensorBytes }) => [requestTensorBytes, responseTensorBytes])).toEqual(
    Array(4).fill([24, 12]),
  );
});

test('a prompt has tokens streamed by every way', async () => {
  const repository = temporaryDirectory();
  cpSync(join(import.meta.dirname, '../../models/stories'), join(repository, 'stories'), { recursive: true });
  const own = await startServer({ repository, args: ['--id', 'another'] });
  try {
    const addresses = ['--grpc', `127.0.0.1:${own.grpcPort}`, '--http', `http://127.0.0.1:${own.httpPort}`];
    const { code, stdout } = await bench(
      ...addresses,
      '--model',
      'stories',
      '--prompt',
      'Once',
      '--rounds',
      '1',
      '--json',
    );
    expect(code).toBe(0);
    const { cells, streams } = JSON.parse(stdout) as BenchResults;
    expect(cells).toEqual([]);
    expect(streams.map(({ way, tokens, textEqual }) => [way, tokens, textEqual])).toEqual([
      ['grpc_stream', 100, true],
      ['sse', 100, true],
      ['sse_openai', 100, true],
      ['request_per_token_rest', 100, true],
    ]);
  } finally {
    await own.stop();
  }
});

test('both doors may want certificates', async () => {
  const pem = (name: string) => join(import.meta.dirname, '../fixtures/tls', name);
  const repository = temporaryDirectory();
  const fixed = addSubModel('INT32', [16], { batching: false });
  writeModel(repository, 'fixed', { config: 'max_batch_size: 0\n', versions: { 1: fixed } });
  const tls = ['http', 'grpc'].flatMap((door) => [
    `--${door}-use-ssl-mutual`,
    ...['--server-cert', '--server-key', '--root-cert'].flatMap((option, index) => [
      option.replace('--', `--${door}-`),
      pem(['server.pem', 'server.key', 'authority.pem'][index]!),
    ]),
  ]);
  const secure = await startServer({ repository, args: tls });
  try {
    const own = ['--grpc', `localhost:${secure.grpcPort}`, '--http', `https://localhost:${secure.httpPort}`];
    const client = ['--ca', pem('authority.pem'), '--cert', pem('client.pem'), '--key', pem('client.key')];
    const { code, stdout, stderr } = await bench(...own, ...client, '--model', 'fixed', '--json', ...SHORT);
    expect(stderr).not.toContain('tensorwire bench:');
    expect(code).toBe(0);
    const { cells } = JSON.parse(stdout) as BenchResults;
    expect(cells.map(({ arm, failures }) => [arm.encoding, failures])).toEqual([
      ['rest_json', 0],
      ['rest_binary', 0],
      ['grpc_raw', 0],
      ['grpc_typed', 0],
    ]);
  } finally {
    await secure.stop();
  }
});

test('what is wrong is one line', async () => {
  const lineOf = async (status: number, args: readonly string[]) => {
    const { code, stdout, stderr } = await bench(...args);
    expect(code).toBe(status);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^tensorwire bench: .*\n$/);
    return stderr;
  };
  const line = (...args: string[]) => lineOf(1, args);
  const usage = (...args: string[]) => lineOf(2, args);
  expect(await usage(...doors)).toContain('option --model is missing');
  expect(await line(...doors, '--model', 'nobody')).toMatch(/--grpc 127\.0\.0\.1:\d+: .*'nobody'/);
  expect(await line(doors[2]!, doors[3]!, '--model', 'nobody')).toMatch(/--http http:\S+: .*'nobody'/);
  expect(await line('--http', 'http://127.0.0.1:1', '--model', 'm')).toContain('--http http://127.0.0.1:1: ');
  const file = join(temporaryDirectory(), 'a-file');
  writeFileSync(file, '');
  expect(await usage(...doors, '--model', 'fixed', '--out', file)).toContain(`directory ${file} can't be written`);
  expect(await usage(...doors, '--model', 'fixed', '--out', '/proc/nope')).toContain("/proc/nope can't be written");
});

test('help goes to stdout, and that of the server names the command', async () => {
  const { code, stdout } = await bench('--help');
  expect(code).toBe(0);
  expect(stdout).toContain('Usage: tensorwire bench');
  const server = await new Promise<string>((resolve) =>
    execFile(process.execPath, [MAIN, '--help'], (_, text) => resolve(text)),
  );
  expect(server).toContain('tensorwire bench --help');
});

/** A server over REST alone, with one model; `onTwo` hears when it first has two requests at a time. */
async function smallServer(onTwo: () => void): Promise<OddServer> {
  const model = {
    name: 'm',
    platform: 'p',
    versions: ['1'],
    inputs: [{ name: 'X', datatype: 'FP32', shape: [1] }],
    outputs: [],
  };
  const metadata: Record<string, unknown> = {
    '/v2': { name: 'small', version: '1', extensions: [] },
    '/v2/models/m': model,
  };
  const waiting: ServerResponse[] = [];
  const [ofMetadata, seen] = [new Set<Socket>(), new WeakSet<Socket>()];
  let hasTold = false;
  const answer = (): void => {
    // A load opens its connections before it asks: where there are two, there will be two requests.
    const callers = [...small.open].filter((socket) => !ofMetadata.has(socket)).length;
    if (!hasTold && callers >= 2) {
      if (waiting.length < 2) return;
      hasTold = true;
      onTwo();
    }
    for (const response of waiting.splice(0)) response.end(ANSWER);
  };
  const small = await startOddServer((response, _, { url, socket }) => {
    const told = metadata[url!];
    if (told) {
      ofMetadata.add(socket);
      return void response.end(JSON.stringify(told));
    }
    waiting.push(response);
    if (!seen.has(socket)) socket.once('close', answer);
    seen.add(socket);
    setTimeout(answer, 5);
  });
  return small;
}

const TWO_LOADS = ['--model', 'm', '--arms', 'rest_json', '--concurrency', '1,2', '--duration', '0.05', '--json'];

test('Ctrl-C ends all processes and leaves what was measured', async () => {
  const files = join(temporaryDirectory(), 'reports');
  let child: ChildProcess | undefined;
  const small = await smallServer(() => child!.kill('SIGINT'));
  const { code, stdout, stderr } = await new Promise<Ended>((resolve) => {
    child = startBench(['--http', small.url, ...TWO_LOADS, '--out', files], resolve);
  });
  await small.close();
  // The pipes are closed when the client process has ended, too.
  expect(code).toBe(130);
  const { cells, cutShort } = JSON.parse(stdout) as BenchResults;
  expect(cells.map(({ load }) => load)).toEqual([{ kind: 'closed', concurrency: 1 }]);
  expect(cutShort).toBe('interrupted, 1 of 2 cells measured');
  expect(stderr).toContain('tensorwire bench: ended early: interrupted, 1 of 2 cells measured\n');
  expect(readFileSync(join(files, 'report.md'), 'utf8')).toContain('ended early: interrupted, 1 of 2 cells measured');
  expect((JSON.parse(readFileSync(join(files, 'results.json'), 'utf8')) as BenchResults).cutShort).toBe(cutShort);
});

test('Ctrl-C hides no error of the files that are to hold what was measured', async () => {
  const files = join(temporaryDirectory(), 'reports');
  let child: ChildProcess | undefined;
  const small = await smallServer(() => {
    rmSync(files, { recursive: true });
    writeFileSync(files, '');
    child!.kill('SIGINT');
  });
  const { code, stdout, stderr } = await new Promise<Ended>((resolve) => {
    child = startBench(['--http', small.url, ...TWO_LOADS, '--out', files], resolve);
  });
  await small.close();
  expect(code).toBe(2);
  expect((JSON.parse(stdout) as BenchResults).cells).toHaveLength(1);
  expect(stderr).toContain(`tensorwire bench: the output directory ${files} can't be written: `);
});

test('a server that goes away leaves what was measured', async () => {
  const small = await smallServer(() => void small.close());
  const { code, stdout, stderr } = await bench('--http', small.url, ...TWO_LOADS);
  expect(code).toBe(1);
  expect((JSON.parse(stdout) as BenchResults).cells).toHaveLength(1);
  expect(stderr).toMatch(/ended early: 1 of 2 cells measured, then m, 2 at a time, rest_json: ./);
});

/** Metadata and nothing else. */
function silentModel(): Promise<OddServer> {
  const tensor = { name: 'X', datatype: 'FP32', shape: [1] };
  const told: Record<string, unknown> = {
    '/v2': { name: 'silent', version: '1', extensions: [] },
    '/v2/models/m': { name: 'm', platform: 'p', versions: ['1'], inputs: [tensor], outputs: [] },
  };
  return startOddServer((response, _, { url }) => void (told[url!] && response.end(JSON.stringify(told[url!]))));
}

test('a server that never answers is told with the limit, whatever it is asked', async () => {
  const deaf = createServer((socket) => socket.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
  const silent = await silentModel();
  const { port } = deaf.address() as AddressInfo;
  const line = async (...args: string[]) => {
    const { code, stderr } = await bench(...args, '--model', 'm', '--timeout', '0.5');
    expect(code).toBe(1);
    return stderr;
  };
  /** Of a server that answers as to its model: with a longer limit where this machine took too long for that. */
  const silentLine = async (...args: string[]) => {
    for (const limit of ['2', '10', '60']) {
      const { code, stderr } = await bench('--http', silent.url, ...args, '--model', 'm', '--timeout', limit);
      expect(code).toBe(1);
      if (!/: no answer within \d+ s/.test(stderr)) return stderr.replace(`within ${limit} s`, 'within the limit');
    }
    return 'even its metadata';
  };
  expect(await line('--http', `http://127.0.0.1:${port}`)).toMatch(
    /: no answer within 0.5 s; --timeout waits longer\n$/,
  );
  expect(await line('--grpc', `127.0.0.1:${port}`)).toMatch(/: no answer within 0.5 s; --timeout waits longer\n$/);
  expect(await silentLine()).toContain('m, rest_json: the server gave no answer within the limit; --timeout');
  expect(await silentLine('--prompt', 'Once')).toMatch(/of model m: nothing came within the limit; --timeout/);
  await silent.close();
  deaf.close();
});

test('a port of the other protocol is told as such', async () => {
  const [, grpc, , http] = doors;
  const crossed = await bench('--http', `http://${grpc}`, '--model', 'fixed');
  expect(crossed.stderr).toMatch(/: no HTTP\/1.1 there; is it the port for gRPC\?\n$/);
  const other = await bench('--grpc', http!.slice('http://'.length), '--model', 'fixed');
  expect(other.stderr).toMatch(/: no HTTP\/2 there; is it the port for REST\?\n$/);
});

test('a prompt for a model that generates no text is answered in the words of the server', async () => {
  const { code, stderr } = await bench(...doors, '--model', 'fixed', '--prompt', 'Once');
  expect(code).toBe(1);
  expect(stderr).toContain("model 'fixed' generates no text");
});

test('what goes to a file has no control codes and no line too long', async () => {
  const { stdout, stderr } = await bench(...doors, '--model', 'identity', '--sizes', '2', ...SHORT);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
  for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(120);
});
