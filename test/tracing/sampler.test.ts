/** Which requests are traced: by lot where a trace starts here, else by the caller's flag or by the trace's id. */
import { TraceFlags } from '@opentelemetry/api';
import { expect, test } from 'vitest';
import { samplerOf } from '../../src/tracing/sampler.js';

const SAMPLED = TraceFlags.SAMPLED;
const NOT = TraceFlags.NONE;
/** By OpenTelemetry's ratio sampler an id counts as the exclusive or of its four words, of 2^32. */
const LOW = '00000000000000000000000010000000';
const HIGH = '000000000000000000000000f0000000';

test.each([
  ['a caller that is traced', true, 0, HIGH, SAMPLED, true],
  ['a caller that is not traced', true, 1, LOW, NOT, false],
  ['a caller that is traced, whose flag is not asked for', false, 0.5, HIGH, SAMPLED, false],
  ['a caller that is not traced, whose flag is not asked for', false, 0.5, LOW, NOT, true],
  ['a low id at a lower ratio', false, 0.05, LOW, SAMPLED, false],
  ['any id at a ratio of 0', false, 0, LOW, SAMPLED, false],
  ['any id at a ratio of 1', false, 1, HIGH, NOT, true],
])('%s', (_, parentBased, ratio, traceId, traceFlags, expected) => {
  const isSampled = samplerOf({ parentBased, ratio });
  expect(isSampled({ traceId, spanId: '00f067aa0ba902b7', traceFlags, isRemote: true })).toBe(expected);
});

test.each([true, false])('without a caller as many as the ratio says (parent based: %s)', (parentBased) => {
  const shareOf = (ratio: number): number => {
    const isSampled = samplerOf({ parentBased, ratio });
    let sampled = 0;
    for (let i = 0; i < 10_000; i++) if (isSampled(undefined)) sampled++;
    return sampled / 10_000;
  };
  expect(shareOf(0)).toBe(0);
  expect(shareOf(1)).toBe(1);
  // Ten times its standard deviation.
  expect(Math.abs(shareOf(0.25) - 0.25)).toBeLessThan(0.0434);
});
