/**
 * What end-to-end tests of texts and pictures share: requests that send them, budgets read back, and the references that the server
 * must agree with, made by the libraries directly.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { expect } from 'vitest';
import { INFER_PHASES } from '../../src/base/timeline.js';
import type { ModelFolder } from '../support/huggingface.js';
import type { RawTensor } from './arms.js';
import { stringsToRaw } from './tensor-text.js';

/** An input of BYTES, [n, 1]. */
export function content(name: string, ...elements: (string | Uint8Array)[]): RawTensor {
  return { name, datatype: 'BYTES', shape: [elements.length, 1], data: stringsToRaw(elements) };
}

/** The output of that name; fails where there is none. */
export function output(outputs: readonly RawTensor[], name: string): RawTensor {
  const found = outputs.find((tensor) => tensor.name === name);
  expect(found, `output ${name}`).toBeDefined();
  return found!;
}

export function floatsOf({ data }: RawTensor): Float32Array {
  return new Float32Array(Uint8Array.from(data).buffer);
}

export function intsOf({ data }: RawTensor): number[] {
  return Array.from(new BigInt64Array(Uint8Array.from(data).buffer), Number);
}

/** The largest difference between two vectors of one length. */
export function farthest(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
}

/** The tokenizer of a folder, without a server around it. */
export function tokenizerOf({ directory }: ModelFolder): Tokenizer {
  const read = (file: string) => JSON.parse(readFileSync(join(directory, file), 'utf8'));
  return new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
}

/** Phases of a budget by name; fails unless they add up to its total but for rounding to microseconds. */
export function budgetOf(text: string | null | undefined): Record<string, number> {
  const timing = Object.fromEntries(
    (text ?? '').split(', ').map((entry) => {
      const [name, duration] = entry.split(';dur=') as [string, string];
      return [name, Number(duration)];
    }),
  );
  expect(Object.keys(timing)).toEqual([...INFER_PHASES, 'total']);
  const sum = INFER_PHASES.reduce((total, phase) => total + timing[phase]!, 0);
  expect(Math.abs(sum - timing.total!)).toBeLessThanOrEqual(0.0005 * (INFER_PHASES.length + 1) + 1e-9);
  return timing;
}
