/** Progress on a terminal and elsewhere. */
import { expect, test } from 'vitest';
import { ProgressLine, progressText } from '../../src/bench/progress-line.js';

const PROGRESS = { done: 3, total: 60, what: 'm 2 KB, 8 at a time, round 1 of 5, grpc_raw', secondsLeft: 200 };

function stream(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, columns: 30, written, write: (text: string) => written.push(text) };
}

test('the time left is said once it is known', () => {
  expect(progressText(PROGRESS)).toBe('3 of 60 cells, 3 min left: m 2 KB, 8 at a time, round 1 of 5, grpc_raw');
  expect(progressText({ ...PROGRESS, secondsLeft: 12.4 })).toMatch(/^3 of 60 cells, 12 s left: /);
  expect(progressText({ ...PROGRESS, secondsLeft: undefined })).toMatch(/^3 of 60 cells: m 2 KB/);
});

test('a terminal gets one line that is written anew, cut to its width, and gone at the end', () => {
  const terminal = stream(true);
  const line = new ProgressLine(terminal);
  line.show(PROGRESS);
  line.show({ ...PROGRESS, what: 'x' });
  line.say('a note');
  line.end();
  expect(terminal.written).toEqual([
    '\r\x1b[2K3 of 60 cells, 3 min left: m…',
    '\r\x1b[2K3 of 60 cells, 3 min left: x',
    '\r\x1b[2K',
    'a note\n',
  ]);
});

test('elsewhere a line comes now and then', () => {
  let now = 0;
  const file = stream(false);
  const line = new ProgressLine(file, () => now);
  for (now = 0; now <= 20_000; now += 1000) line.show({ ...PROGRESS, what: `${now}` });
  line.end();
  expect(file.written.map((text) => text.split(': ')[1])).toEqual(['0\n', '10000\n', '20000\n']);
});

test('a terminal that says it has no columns is written as one of 80', () => {
  let text = '';
  const line = new ProgressLine({ isTTY: true, columns: 0, write: (part) => (text += part) });
  line.show({ done: 1, total: 2, what: 'x'.repeat(100), secondsLeft: undefined });
  expect(text).toContain('x'.repeat(40));
});
