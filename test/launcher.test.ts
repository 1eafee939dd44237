import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { exitCodeOf, isNativeDeath, mayRestart } from '../src/launcher.js';
import { meaningOf, SAME_KEYSTROKE_MS } from '../src/stop-signals.js';

const script = fileURLToPath(new URL('./fixtures/launcher/launch.mjs', import.meta.url));

/** A launcher in a process of its own, whose server's lines can be waited for. */
class Launched {
  readonly #lines: string[] = [];
  readonly #reader: Interface;
  readonly child: ChildProcess;
  readonly exit: Promise<[code: number | null, signal: string | null]>;
  errors = '';
  serverPids: number[] = [];

  constructor(args: string[], options: object = {}, detached = false) {
    const json = JSON.stringify({ server: 'server.mjs', args, ...options });
    this.child = spawn(process.execPath, [script, json], { stdio: ['ignore', 'pipe', 'pipe'], detached });
    this.exit = once(this.child, 'close') as Promise<[number | null, string | null]>;
    this.child.stderr?.on('data', (chunk) => (this.errors += chunk));
    this.#reader = createInterface(this.child.stdout!);
    this.#reader.on('line', (line) => {
      if (line.startsWith('started ')) this.serverPids.push(Number(line.split(' ')[1]));
      this.#lines.push(line);
    });
  }

  /** Waits until the server has said so `count` times. Fails when the launcher ends first. */
  async said(start: string, count = 1): Promise<string[]> {
    for (;;) {
      const found = this.#lines.filter((line) => line.startsWith(start));
      if (found.length >= count) return found;
      const ended = await Promise.race([once(this.#reader, 'line').then(() => false), this.exit.then(() => true)]);
      const last = this.#lines.filter((line) => line.startsWith(start));
      if (ended && last.length < count) throw new Error(`ended without "${start}": ${this.#lines} ${this.errors}`);
    }
  }

  /** Waits for text on stderr, a pipe of its own: what was written there before a line on stdout may be read after it. */
  async complained(text: string): Promise<void> {
    await expect.poll(() => this.errors).toContain(text);
  }

  get lines(): readonly string[] {
    return this.#lines;
  }
}

const launched: Launched[] = [];
afterEach(() => {
  for (const { child, serverPids } of launched.splice(0)) {
    child.kill('SIGKILL');
    for (const pid of serverPids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  }
});

function start(...args: ConstructorParameters<typeof Launched>): Launched {
  const one = new Launched(...args);
  launched.push(one);
  return one;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe.runIf(process.platform !== 'win32')('the launcher', () => {
  test.each([0, 1, 7])('hands on the exit code %d', async (code) => {
    expect(await start([`exit=${code}`]).exit).toEqual([code, null]);
  });

  test('hands flags of Node and arguments on', async () => {
    const one = start(['one', 'two=2'], { execArgs: ['--initial-old-space-size=64'] });
    const [line] = await one.said('started');
    expect(line).toMatch(/^started \d+ one two=2$/);
  });

  test.each(['SIGSEGV', 'SIGFPE', 'SIGBUS', 'SIGILL', 'SIGABRT', 'SIGKILL'] as const)(
    'restarts the server at once after %s',
    async (signal) => {
      const one = start([]);
      await one.said('ready');
      process.kill(one.serverPids[0]!, signal);
      await one.said('ready', 2);
      expect(one.serverPids[1]).not.toBe(one.serverPids[0]);
      await one.complained(`died natively: starting it again {"death":"${signal}"`);
      one.child.kill('SIGTERM');
      expect(await one.exit).toEqual([0, null]);
    },
  );

  test('restarts a server that aborts', async () => {
    const one = start(['abort'], { restartLimit: 1 });
    expect(await one.exit).toEqual([1, null]);
    expect(one.serverPids).toHaveLength(2);
  });

  test.each([0, 1, 3])('gives up after %d restarts within a minute, and says so', async (restartLimit) => {
    const one = start(['die=SIGSEGV'], { restartLimit });
    expect(await one.exit).toEqual([1, null]);
    expect(one.serverPids).toHaveLength(restartLimit + 1);
    expect(one.errors).toContain('giving up {"death":"SIGSEGV"');
  });

  test('does not restart a server that dies before it was ready', async () => {
    const one = start(['unready']);
    await one.said('started');
    process.kill(one.serverPids[0]!, 'SIGSEGV');
    expect(await one.exit).toEqual([139, null]);
    expect(one.serverPids).toHaveLength(1);
  });

  test('a restarted server gets the port that it had, though a client is still connected', async () => {
    const one = start(['listen=0']);
    const [first] = await one.said('listening');
    await one.said('ready');
    const client = connect(Number(first!.split(' ')[1]), '127.0.0.1').on('error', () => undefined);
    await once(client, 'connect');
    process.kill(one.serverPids[0]!, 'SIGSEGV');
    await one.said('ready', 2);
    expect(await one.said('listening', 2)).toEqual([first, first]);
    client.destroy();
  });

  test.each([
    ['SIGTERM', 'SIGTERM'],
    ['SIGINT', 'SIGINT'],
    ['SIGHUP', 'SIGTERM'],
  ] as const)('hands %s on as %s', async (signal, arriving) => {
    const one = start([]);
    await one.said('ready');
    one.child.kill(signal);
    expect(await one.exit).toEqual([0, null]);
    expect(one.lines.at(-1)).toBe(`got ${arriving}`);
  });

  test('a signal that finds a server without handlers is a clean stop', async () => {
    const one = start(['deaf', 'unready']);
    await one.said('started');
    one.child.kill('SIGTERM');
    expect(await one.exit).toEqual([0, null]);
  });

  test('a second signal kills a server that does not stop', async () => {
    const one = start(['stubborn']);
    await one.said('ready');
    one.child.kill('SIGTERM');
    await one.said('got SIGTERM');
    one.child.kill('SIGTERM');
    expect(await one.exit).toEqual([1, null]);
    expect(isAlive(one.serverPids[0]!)).toBe(false);
    expect(one.errors).toContain('a second signal (SIGTERM)');
  });

  test('a server that overruns its time to exit is killed', async () => {
    const one = start(['stubborn'], { forceAfterMs: 1 });
    await one.said('ready');
    one.child.kill('SIGTERM');
    expect(await one.exit).toEqual([1, null]);
    expect(one.errors).toContain('the time to exit is over');
  });

  test('one Ctrl-C, which reaches the whole group, is one graceful stop', async () => {
    const one = start(['stubborn'], {}, true);
    await one.said('ready');
    process.kill(-one.child.pid!, 'SIGINT');
    await one.said('got SIGINT');
    expect(one.child.exitCode).toBe(null);
    expect(isAlive(one.serverPids[0]!)).toBe(true);
    expect(one.errors).toBe('');
    one.child.kill('SIGTERM');
    expect(await one.exit).toEqual([1, null]);
  });

  test('a server that dies natively while it stops is not restarted', async () => {
    const one = start(['stubborn']);
    await one.said('ready');
    one.child.kill('SIGTERM');
    await one.said('got SIGTERM');
    process.kill(one.serverPids[0]!, 'SIGSEGV');
    expect(await one.exit).toEqual([139, null]);
    expect(one.serverPids).toHaveLength(1);
  });

  test('when the launcher is killed the server hears of it', async () => {
    const one = start([]);
    await one.said('ready');
    one.child.kill('SIGKILL');
    // stdout closes when the server, which shares it, is gone too.
    expect(await one.exit).toEqual([null, 'SIGKILL']);
    expect(one.lines.at(-1)).toBe('disconnected');
  });

  test('a Node that is not there is one line and exit code 1', async () => {
    const one = start([], { execPath: '/nowhere/node' });
    expect(await one.exit).toEqual([1, null]);
    expect(one.errors).toContain('could not be started');
  });

  test('a dead stderr does not keep it from restarting', async () => {
    const one = start([]);
    await one.said('ready');
    one.child.stderr?.destroy();
    for (let death = 0; death < 3; death++) {
      process.kill(one.serverPids[death]!, 'SIGSEGV');
      await one.said('ready', death + 2);
    }
    one.child.kill('SIGTERM');
    expect(await one.exit).toEqual([0, null]);
  });
});

describe('rules', () => {
  test.each<[number | null, NodeJS.Signals | null, boolean]>([
    [0, null, false],
    [1, null, false],
    [13, null, false],
    [130, null, false],
    [143, null, false],
    [132, null, true],
    [134, null, true],
    [135, null, true],
    [136, null, true],
    [137, null, true],
    [139, null, true],
    [0xc0000005, null, true],
    [null, 'SIGSEGV', true],
    [null, 'SIGKILL', true],
    [null, 'SIGTERM', false],
    [null, 'SIGINT', false],
  ])('exit code %s with signal %s: native %s', (code, signal, native) => {
    expect(isNativeDeath(code, signal)).toBe(native);
  });

  test('a death by signal becomes the exit code that a shell gives it', () => {
    expect(exitCodeOf(null, 'SIGTERM')).toBe(143);
    expect(exitCodeOf(null, 'SIGKILL')).toBe(137);
    expect(exitCodeOf(5, null)).toBe(5);
  });

  test.each([
    [[], 0, 0, false],
    [[], 0, 1, true],
    [[0, 1, 2], 59_999, 3, false],
    [[0, 1, 2], 60_000, 3, true],
    [[0, 1, 2, 70_000], 70_001, 3, true],
  ])('restarts at %j, now %d, limit %d: one more %s', (restarts, now, limit, allowed) => {
    expect(mayRestart(restarts, now, limit)).toBe(allowed);
  });

  test.each([
    ['SIGTERM', undefined, 'graceful'],
    ['SIGINT', { name: 'SIGINT', atMs: 1000 - SAME_KEYSTROKE_MS + 1 }, 'same'],
    ['SIGINT', { name: 'SIGINT', atMs: 1000 - SAME_KEYSTROKE_MS }, 'forced'],
    ['SIGTERM', { name: 'SIGTERM', atMs: 999 }, 'forced'],
    ['SIGINT', { name: 'SIGTERM', atMs: 999 }, 'forced'],
  ] as const)('%s at 1000 after %j is %s', (name, previous, meaning) => {
    expect(meaningOf({ name, atMs: 1000 }, previous)).toBe(meaning);
  });
});
