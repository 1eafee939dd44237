/**
 * How the real server starts, stops, dies and comes back, as its users and its service manager see it.
 *
 * A request that must be under way is one that computes for as long as the test needs, and the metrics tell that it has been taken.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { OPTIONS } from '../../src/base/options.js';
import { call, connect } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, slowModel, writeModel } from '../support/onnx.js';
import { type ServerOptions, startServer, type TestServer } from '../support/server.js';
import { ARMS, createArmClient, type RawTensor } from './arms.js';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const ROW: RawTensor = { name: 'INPUT0', datatype: 'FP32', shape: [1, 16], data: Buffer.alloc(64, 1) };

const servers: TestServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    // A second signal forces it, also where a test left work behind.
    server.process.kill('SIGTERM');
    server.process.kill('SIGTERM');
    await server.exited;
  }
});

async function start(options: Partial<ServerOptions> = {}): Promise<TestServer> {
  const server = await startServer({ repository: repository(), ...options });
  servers.push(server);
  return server;
}

/** `quick` answers at once, `brief` in about a fifth of a second, `short` in about a second, `long` in minutes. */
function repository(): string {
  const directory = temporaryDirectory();
  writeModel(directory, 'quick', { versions: { 1: identityModel('FP32', [16]) } });
  writeModel(directory, 'brief', { versions: { 1: slowModel(600) } });
  writeModel(directory, 'short', { versions: { 1: slowModel(3_000) } });
  writeModel(directory, 'long', { versions: { 1: slowModel(1_000_000) } });
  return directory;
}

/** Resolves when the server says that `count` requests were accepted; a slow machine may have answered some of them. */
async function accepted(server: TestServer, count: number): Promise<void> {
  for (;;) {
    const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
    const samples = text.matchAll(/^(?:tensorwire_requests_in_flight|nv_inference_request_success\{.*\}) (\d+)$/gm);
    if ([...samples].reduce((sum, [, value]) => sum + Number(value), 0) >= count) return;
  }
}

/** The serving process, by its own log; one that came after `first`. The log is no banner: it may be read later. */
async function servingPid(server: TestServer, first = 0): Promise<number> {
  return Number((await server.waitFor(new RegExp(`"pid":(?!${first},)(\\d+),"model"`)))[1]);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Waits until nothing listens on either port: they close a moment after the log says that the server stops. */
async function refused(server: TestServer): Promise<void> {
  const restCode = () =>
    fetch(`http://127.0.0.1:${server.httpPort}/v2/health/live`).then(
      ({ status }) => status,
      ({ cause }: { cause?: { code: string } }) => cause?.code,
    );
  await expect.poll(restCode).toBe('ECONNREFUSED');
  const grpcCode = async () => {
    const stub = connect('open', server.grpcPort);
    const { error } = await call(stub, 'ServerLive', {});
    stub.close();
    return error?.code;
  };
  await expect.poll(grpcCode).toBe(14);
}

/** Runs the command until it ends by itself. */
async function run(...args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

const FREE = ['http', 'grpc', 'metrics'].flatMap((name) => [`--${name}-port=0`, `--${name}-address=127.0.0.1`]);

describe('SIGTERM', () => {
  test('what is accepted on both protocols is answered, what is new is refused, the exit code is 0', async () => {
    const server = await start();
    const client = createArmClient(server);
    const health = connect('health', server.grpcPort);
    const watched: string[] = [];
    const watch = health.watch!({ service: '' });
    watch.on('data', ({ status }: { status: string }) => watched.push(status)).on('error', () => {});
    await once(watch, 'data');
    // More than can run at once: some still wait in the queue.
    const replies = Promise.all(ARMS.map((arm) => client.infer(arm, 'short', [ROW])));
    await accepted(server, ARMS.length);
    server.process.kill('SIGTERM');
    await server.waitFor(/stopping: finishing what is accepted/);
    await refused(server);
    const late = connect('open', server.grpcPort);
    expect((await call(late, 'ServerReady', {})).error).toMatchObject({ code: 14 });
    late.close();
    const outputs = await replies;
    expect(outputs.map(([output]) => output!.shape)).toEqual(ARMS.map(() => [1, 16]));
    expect(new Set(outputs.map(([output]) => Buffer.from(output!.data).toString('hex'))).size).toBe(1);
    expect(await server.exited).toEqual({ code: 0, signal: null });
    await expect.poll(() => watched).toEqual(['SERVING', 'NOT_SERVING']);
    expect(server.stderr).toMatch(/"message":"stopped"}\n$/);
    client.close();
    health.close();
  });

  test('an idle server stops at once, its idle connections closed', async () => {
    const server = await start();
    const client = createArmClient(server);
    for (const arm of ARMS) await client.infer(arm, 'quick', [ROW]);
    expect(await server.stop()).toBe(0);
    client.close();
  });

  test('a second one ends a server that still computes, with exit code 1', async () => {
    const server = await start();
    const pid = await servingPid(server);
    const client = createArmClient(server);
    const lost = Promise.allSettled([
      client.infer('REST JSON', 'long', [ROW]),
      client.infer('gRPC raw', 'long', [ROW]),
    ]);
    await accepted(server, 2);
    server.process.kill('SIGTERM');
    await server.waitFor(/stopping: finishing what is accepted/);
    expect(isAlive(pid)).toBe(true);
    server.process.kill('SIGTERM');
    expect(await server.exited).toEqual({ code: 1, signal: null });
    expect(isAlive(pid)).toBe(false);
    expect((await lost).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    client.close();
  });

  test('what still waits when --exit-timeout-secs are over is refused, what runs is finished, the exit code is 0', async () => {
    const server = await start({ args: ['--exit-timeout-secs=0', '--worker-count=1'] });
    const client = createArmClient(server);
    // One batch of up to four runs and one may be prepared; the others wait, and would for a quarter of a minute.
    const asked = Array.from({ length: 300 }, (_, i) => client.infer(ARMS[i % ARMS.length]!, 'brief', [ROW]));
    const answers = Promise.allSettled(asked);
    await accepted(server, asked.length);
    server.process.kill('SIGTERM');
    expect(await server.exited).toEqual({ code: 0, signal: null });
    const refusals = (await answers).filter((answer) => answer.status === 'rejected');
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals.length).toBeLessThan(asked.length);
    for (const { reason } of refusals) expect(reason.message).toContain('server is shutting down');
    client.close();
  });
});

describe('a native death', () => {
  test('of the serving process is followed by a restart on the same ports', async () => {
    const server = await start();
    const client = createArmClient(server);
    const lost = client.infer('REST JSON', 'long', [ROW]).catch((error: Error) => error);
    await accepted(server, 1);
    const first = await servingPid(server);
    process.kill(first, 'SIGSEGV');
    expect(await lost).toBeInstanceOf(Error);
    await server.waitFor(/first inference[\s\S]*first inference/);
    expect(await servingPid(server, first)).not.toBe(first);
    expect(isAlive(first)).toBe(false);
    const again = createArmClient(server);
    for (const arm of ARMS) expect((await again.infer(arm, 'quick', [ROW]))[0]).toMatchObject({ shape: [1, 16] });
    await server.waitFor(/died natively: starting it again/);
    expect(await server.stop()).toBe(0);
    again.close();
    client.close();
  });

  test('of the launcher leaves a server that finishes what it has and goes', async () => {
    const server = await start();
    const pid = await servingPid(server);
    const client = createArmClient(server);
    const replies = Promise.all([
      client.infer('REST binary', 'short', [ROW]),
      client.infer('gRPC typed', 'short', [ROW]),
    ]);
    await accepted(server, 2);
    server.process.kill('SIGKILL');
    await server.waitFor(/"why":"the launcher is gone"/);
    await refused(server);
    expect((await replies).map(([output]) => output!.shape)).toEqual([
      [1, 16],
      [1, 16],
    ]);
    // The serving process holds stdout too: it has ended when that is closed.
    expect(await server.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(server.stderr).toMatch(new RegExp(`"pid":${pid},"message":"stopped"}\\n$`));
    client.close();
  });
});

describe('a start that can not succeed is one line on stderr and exit code 1', () => {
  test.each(['grpc', 'http', 'metrics'])('a %s port in use', async (name) => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await once(blocker, 'listening');
    const { port } = blocker.address() as AddressInfo;
    const ended = await run('--model-repository', temporaryDirectory(), ...FREE, `--${name}-port=${port}`);
    expect(ended).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        new RegExp(
          `^tensorwire: \\S+ can't listen on --${name}-port ${port} at 127\\.0\\.0\\.1: the port is in use\\n$`,
        ),
      ),
    });
    blocker.close();
    await once(blocker, 'close');
  });

  test('an address that this machine has not', async () => {
    const { code, stdout, stderr } = await run(...FREE, '--http-address=203.0.113.7');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^tensorwire: .*203\.0\.113\.7: no such address on this machine\n$/);
  });

  test.each([
    ['that is not there', () => '/nowhere/models', 'is not there'],
    [
      'that is a file',
      () => {
        const file = join(temporaryDirectory(), 'file');
        writeFileSync(file, '');
        return file;
      },
      'is a file',
    ],
  ])('a repository %s', async (_, path, text) => {
    const { code, stdout, stderr } = await run(...FREE, '--model-repository', path());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^tensorwire: option --model-repository: .*${text}\\n$`));
  });

  test.each([
    ['--http-prt=1', '"--http-prt" is unknown; did you mean --http-port?'],
    ['--http-port=80000', 'option --http-port: "80000" must be'],
    ['--log-level=loud', 'option --log-level: "loud" must be'],
    ['--worker-count=many', 'option --worker-count: "many" must be'],
    ['--http-use-ssl=true', 'needs --http-server-cert'],
  ])('%s', async (option, text) => {
    const { code, stdout, stderr } = await run(option);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(text);
    expect(stderr).toMatch(/^tensorwire: .*\n$/);
  });

  test.each([
    ['http', 'server-cert', 'make.sh', 'server.key', 'must be a PEM certificate chain'],
    ['grpc', 'server-key', 'server.pem', 'make.sh', 'must be a PEM private key'],
    ['http', 'server-key', 'server.pem', 'client.key', 'must be the key of the certificate'],
    ['grpc', 'server-key', 'server.pem', 'client.key', 'must be the key of the certificate'],
  ])('%s with a --%s that will not do', async (protocol, option, cert, key, text) => {
    const file = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
    const files = [`--${protocol}-server-cert=${file(cert)}`, `--${protocol}-server-key=${file(key)}`];
    const { code, stdout, stderr } = await run(...FREE, `--${protocol}-use-ssl=true`, ...files);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^tensorwire: option --${protocol}-${option}: ".*" ${text}.*\\n$`));
  });

  test('a model that can not be read, where --exit-on-error asks for that', async () => {
    const directory = repository();
    writeModel(directory, 'broken', { versions: { 1: Buffer.from('not a model') } });
    const { code, stdout, stderr } = await run(
      ...FREE,
      '--model-repository',
      directory,
      '--exit-on-error=true',
      '--log-level=silent',
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^tensorwire: model 'broken' failed to load \(--exit-on-error\): .+\n$/);
  });
});

test('a model that can not be read leaves the others serving, and banner, log and index say why', async () => {
  const directory = repository();
  writeModel(directory, 'broken', { versions: { 1: Buffer.from('not a model') } });
  writeModel(directory, 'mistyped', { config: 'max_batch_size: "four"', versions: { 1: identityModel('FP32', [4]) } });
  writeModel(directory, 'hollow', { config: 'max_batch_size: 4', versions: {} });
  const server = await start({ repository: directory });
  const client = createArmClient(server);
  await client.infer('gRPC raw', 'quick', [ROW]);
  const index = await fetch(`http://127.0.0.1:${server.httpPort}/v2/repository/index`, { method: 'POST' });
  const failed = ((await index.json()) as { name: string; state: string; reason: string }[]).filter(
    ({ state }) => state !== 'READY',
  );
  expect(failed.map(({ name }) => name).toSorted()).toEqual(['broken', 'hollow', 'mistyped']);
  await server.waitFor(/first inference/);
  for (const { name, reason } of failed) {
    expect(reason).toMatch(/\w/);
    // No path of this machine leaves by the protocol.
    expect(reason).not.toContain(directory);
    expect(server.stdout).toMatch(new RegExp(`^ +${name} .*UNAVAILABLE|^ +${name} .*UNKNOWN`, 'm'));
    expect(server.stdout).toContain(reason);
    expect(server.stderr).toContain(`"model":"${name}"`);
  }
  // Strict readiness: not all models are there.
  expect((await fetch(`http://127.0.0.1:${server.httpPort}/v2/health/ready`)).status).toBe(400);
  await expect(client.infer('REST JSON', 'broken', [ROW])).rejects.toThrow(/broken/);
  client.close();
});

test('--help lists every option with its flag and its variable', async () => {
  const { code, stdout, stderr } = await run('--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const key of Object.keys(OPTIONS)) {
    const flag = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    expect(stdout).toMatch(new RegExp(`--${flag}\\b`));
  }
});

describe('nobody who reads', () => {
  test('its stdout after the first line: it serves all the same', async () => {
    const free = await freePorts(2);
    const ports = [`--http-port=${free[0]}`, `--grpc-port=${free[1]}`, '--metrics-port=0'];
    const command = [process.execPath, MAIN, '--model-repository', repository(), ...FREE, ...ports];
    // The inner shell tells its own id and becomes the launcher, so that it can be signalled.
    const pipeline = `sh -c 'echo $$ >&2; exec "$@"' sh "$@" | head -1`;
    const child = spawn('sh', ['-c', pipeline, 'sh', ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    const told = once(child.stderr, 'data') as Promise<[Buffer]>;
    const ended = once(child, 'close');
    await answers({ httpPort: free[0]!, grpcPort: free[1]! });
    process.kill(Number.parseInt(String((await told)[0]), 10), 'SIGTERM');
    // Its stderr closes when all who hold it have ended.
    await ended;
    expect(await isFree(free[0]!)).toBe(true);
  });

  test('its stdout and stderr from the start: it serves all the same', async () => {
    const free = await freePorts(2);
    const ports = [`--http-port=${free[0]}`, `--grpc-port=${free[1]}`, '--metrics-port=0'];
    const child = spawn(process.execPath, [MAIN, '--model-repository', repository(), ...FREE, ...ports], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = once(child, 'exit');
    child.stdout.destroy();
    child.stderr.destroy();
    await answers({ httpPort: free[0]!, grpcPort: free[1]! });
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(await isFree(free[0]!)).toBe(true);
  });

  /** Waits until the server is ready, then asks for good things and bad. */
  async function answers(ports: { httpPort: number; grpcPort: number }): Promise<void> {
    const client = createArmClient(ports);
    const ready = (): Promise<boolean> =>
      fetch(`http://127.0.0.1:${ports.httpPort}/v2/health/ready`).then(
        ({ status }) => status === 200,
        () => false,
      );
    while (!(await ready()));
    for (let i = 0; i < 20; i++) {
      for (const arm of ARMS) await client.infer(arm, 'quick', [ROW]);
      await expect(client.infer('gRPC raw', 'nothing', [ROW])).rejects.toThrow('unknown model');
    }
    client.close();
  }
});

async function isFree(port: number): Promise<boolean> {
  const reply = await fetch(`http://127.0.0.1:${port}/v2/health/live`).catch((error: Error) => error);
  return reply instanceof Error;
}

/** Ports that were free a moment ago and that the system gives to nobody by itself: those begin at 32768. */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    ports.add(port);
    await once(server.close(), 'close');
  }
  return [...ports];
}
