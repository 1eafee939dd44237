import { expect, test } from 'vitest';
import { WaitingLine } from '../../workers/waiting-line.js';

interface Item {
  readonly clientKey: string;
  readonly name: string;
}

const item = (name: string): Item => ({ clientKey: name[0]!, name });

function lineOf(...names: string[]): { line: WaitingLine<Item>; items: Map<string, Item> } {
  const line = new WaitingLine<Item>();
  const items = new Map(names.map((name) => [name, item(name)]));
  for (const each of items.values()) line.push(each);
  return { line, items };
}

function drain(line: WaitingLine<Item>): string[] {
  const names: string[] = [];
  for (let next = line.shift(); next; next = line.shift()) names.push(next.name);
  return names;
}

test('clients take turns, each in its own order', () => {
  const { line } = lineOf('a1', 'a2', 'a3', 'b1', 'c1', 'c2');
  expect(line.size).toBe(6);
  expect(drain(line)).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3']);
  expect(line.size).toBe(0);
});

test('who is looked at is who comes next, and a client that comes new is behind those there', () => {
  const { line } = lineOf('a1', 'a2', 'b1');
  expect(line.peek()?.name).toBe('a1');
  line.shift();
  line.push(item('c1'));
  expect(drain(line)).toEqual(['b1', 'a2', 'c1']);
});

test('one that leaves from the middle is not missed by others, and twice is once', () => {
  const { line, items } = lineOf('a1', 'a2', 'b1', 'b2');
  line.remove(items.get('b1')!);
  line.remove(items.get('b1')!);
  line.remove(items.get('a1')!);
  expect(line.size).toBe(2);
  expect(drain(line)).toEqual(['a2', 'b2']);
});

test('an empty line has nobody', () => {
  const { line } = lineOf();
  expect(line.peek()).toBeUndefined();
  expect(line.shift()).toBeUndefined();
});
