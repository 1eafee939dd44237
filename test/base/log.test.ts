import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLog, type LogOptions, type RootLog } from '../../src/base/log.js';

let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'tensorwire-log-'));
});
afterEach(() => rmSync(place, { recursive: true }));

/** The text that `use` makes a log write. */
function written(options: Omit<LogOptions, 'fd'>, use: (log: RootLog) => void): string {
  const path = join(place, 'log');
  const fd = openSync(path, 'w');
  const log = createLog({ ...options, fd });
  use(log);
  log.flush();
  closeSync(fd);
  return readFileSync(path, 'utf8');
}

describe('lines', () => {
  test('a JSON line has level by name, time, message and fields', () => {
    const line = written({ level: 'info', format: 'json' }, (log) =>
      log.info({ model: 'digits', ms: 12 }, 'model loaded'),
    );
    expect(JSON.parse(line)).toMatchObject({ level: 'info', message: 'model loaded', model: 'digits', ms: 12 });
    expect(JSON.parse(line).time).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  test('a text line reads from left to right', () => {
    const line = written({ level: 'info', format: 'text' }, (log) => log.warn({ model: 'a b' }, 'queue is full'));
    expect(line).toMatch(/^\S+Z warn {2}queue is full model="a b"\n$/);
  });

  test.each(['json', 'text'] as const)('a caught error is written with its stack (%s)', (format) => {
    const line = written({ level: 'info', format }, (log) =>
      log.error({ error: new TypeError('odd') }, 'internal error'),
    );
    expect(line).toContain('TypeError: odd');
    expect(line).toContain('log.test.ts');
  });

  test.each(['json', 'text'] as const)('a thrown value that is no error is written too (%s)', (format) => {
    expect(written({ level: 'info', format }, (log) => log.error({ error: 'odd' }, 'internal error'))).toContain('odd');
  });

  test('lines below the level are not written', () => {
    const lines = written({ level: 'warn', format: 'json' }, (log) => {
      log.debug({}, 'one');
      log.info({}, 'two');
      log.warn({}, 'three');
    });
    expect(lines.trim().split('\n')).toHaveLength(1);
    expect(written({ level: 'silent', format: 'json' }, (log) => log.error({}, 'one'))).toBe('');
  });

  test('a child adds its fields to each line', () => {
    const line = written({ level: 'info', format: 'json' }, (log) =>
      log.child({ model: 'm' }).info({ version: 3 }, 'ready'),
    );
    expect(JSON.parse(line)).toMatchObject({ model: 'm', version: 3 });
  });
});

const script = fileURLToPath(new URL('../fixtures/log/chatter.mjs', import.meta.url));
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

async function chatter(stdio: StdioOptions, command = process.execPath, args = [script]): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio });
  children.push(child);
  await once(child, 'message');
  return child;
}

/** What the process says after this order; it can only say so while it lives and its main loop turns. */
async function order(child: ChildProcess, message: object): Promise<{ dropped: number; failed: number }> {
  const answer = once(child, 'message');
  child.send(message);
  return (await answer)[0] as { dropped: number; failed: number };
}

/** Orders lines until some were lost: a pipe learns of its reader's death with the first write after it. */
async function orderUntilLost(child: ChildProcess): Promise<{ dropped: number; failed: number }> {
  for (;;) {
    const answer = await order(child, { lines: 2, print: 2 });
    if (answer.dropped > 0 && answer.failed > 0) return answer;
  }
}

describe('a reader that fails costs lines, not the process', () => {
  test('the reader of both streams dies', async () => {
    const child = await chatter(['ignore', 'pipe', 'pipe', 'ipc']);
    child.stdout?.destroy();
    child.stderr?.destroy();
    await orderUntilLost(child);
    const { dropped } = await order(child, { lines: 1 });
    expect(dropped).toBeGreaterThan(0);
    expect(child.exitCode).toBe(null);
  });

  test.runIf(process.platform === 'linux')('the disk is full', async () => {
    const full = openSync('/dev/full', 'w');
    const child = await chatter(['ignore', full, full, 'ipc']);
    closeSync(full);
    const { dropped } = await orderUntilLost(child);
    expect(dropped).toBeGreaterThan(0);
    expect(child.exitCode).toBe(null);
  });

  test.runIf(process.platform !== 'win32')('both streams are closed from the start', async () => {
    const closing = ['-c', `exec "${process.execPath}" "${script}" >&- 2>&-`];
    const child = await chatter(['ignore', 'pipe', 'pipe', 'ipc'], 'sh', closing);
    await order(child, { lines: 3, print: 3 });
    expect(child.exitCode).toBe(null);
  });

  test('a reader that sleeps bounds what waits and never holds the main loop', async () => {
    const child = await chatter(['ignore', 'ignore', 'pipe', 'ipc']);
    const { dropped } = await order(child, { lines: 4000, bytes: 1000 });
    expect(dropped).toBeGreaterThan(1000);
    expect(await order(child, { lines: 1 })).toBeDefined();
    // It wakes up: what waited arrives, and new lines are taken again.
    const firstLines = once(child.stderr!, 'data');
    await firstLines;
    child.stderr?.resume();
    expect(child.exitCode).toBe(null);
  });
});

test('lines logged right before process.exit are written', async () => {
  const child = await chatter(['ignore', 'ignore', 'pipe', 'ipc']);
  const output = text(child.stderr!);
  child.send({ lines: 100, exit: 3 });
  const [code] = await once(child, 'exit');
  expect(code).toBe(3);
  expect((await output).trim().split('\n')).toHaveLength(100);
});
