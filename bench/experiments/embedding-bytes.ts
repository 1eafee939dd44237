/**
 * How many bytes is an embedding of 1536 numbers as JSON, and how many are they in memory?
 *
 * One experiment of `run.ts`. Three ways to print an FP32 number: as the double that it widens to (JavaScript's and Python's stock
 * printers), with the fewest digits that give the same FP32 number back, and with four decimals, which the article's example has and
 * which loses most of the number.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { type ExperimentContext, randomNormal } from './experiment.js';
import { shortest } from './payloads.js';

const DIMENSIONS = 1536;

export async function embeddingBytes(_: ExperimentContext): Promise<ExperimentResult> {
  const normal = randomNormal(DIMENSIONS);
  const length = Math.hypot(...normal);
  const unit = Float32Array.from(normal, (value) => value / length);
  const bytes = (numbers: readonly (number | string)[]): number => `[${numbers.join(',')}]`.length;
  return {
    name: 'embedding_bytes',
    figures: {
      raw_bytes: unit.byteLength,
      json_double_bytes: bytes([...unit]),
      json_shortest_bytes: bytes(shortest(unit)),
      json_four_decimals_bytes: bytes(Array.from(unit, (value) => value.toFixed(4))),
      base64_bytes: Math.ceil(unit.byteLength / 3) * 4,
      python_separators_bytes: bytes([...unit]) + DIMENSIONS - 1,
    },
    method: `${DIMENSIONS} random numbers normalized to length 1, as an array of JSON and as FP32.`,
  };
}
