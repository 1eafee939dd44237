/**
 * Prometheus' text format, a piece at a time: the lines of one metric's head, of one value, of one histogram.
 *
 * Called by `metrics.ts` at each scrape. Pure; what is printed for two hundred models is a hundred thousand lines, so each line costs a
 * concatenation and no more.
 */
import type { BucketCounts } from './bucket-counts.js';

/** What is said of a metric before its values. */
export function printHead(name: string, help: string, type: 'counter' | 'gauge' | 'histogram'): string {
  return `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n`;
}

/** Labels without their braces: `model="a",arm="rest_json"`; '' where there are none. */
export function printLabels(labels: Readonly<Record<string, string>>): string {
  let text = '';
  for (const name in labels) text += `${text === '' ? '' : ','}${name}="${escaped(labels[name]!)}"`;
  return text;
}

/** One line; `labels` as `printLabels` gives them. */
export function printValue(name: string, labels: string, value: number): string {
  return labels === '' ? `${name} ${numeral(value)}\n` : `${name}{${labels}} ${numeral(value)}\n`;
}

/** All lines of one histogram: buckets that add up, the sum, the count. What is shown is the counted value times `scale`. */
export function printHistogram(
  name: string,
  labels: string,
  { bounds, counts, sum }: BucketCounts,
  scale: number,
): string {
  const head = `${name}_bucket{${labels === '' ? '' : `${labels},`}le="`;
  let text = '';
  let total = 0;
  for (let bucket = 0; bucket < bounds.length; bucket++) {
    total += counts[bucket]!;
    text += `${head}${boundOf(bounds[bucket]! * scale)}"} ${total}\n`;
  }
  total += counts[bounds.length]!;
  text += `${head}+Inf"} ${total}\n`;
  return text + printValue(`${name}_sum`, labels, sum * scale) + printValue(`${name}_count`, labels, total);
}

/** Bounds as texts: there are few, and they are asked for by each histogram. */
const boundTexts = new Map<number, string>();

function boundOf(bound: number): string {
  let text = boundTexts.get(bound);
  if (text === undefined) {
    // Fifteen digits: 0.3 is 0.3, and not what a multiplication leaves of it.
    text = String(Number(bound.toPrecision(15)));
    boundTexts.set(bound, text);
  }
  return text;
}

function numeral(value: number): string {
  if (Number.isFinite(value)) return String(value);
  if (Number.isNaN(value)) return 'NaN';
  return value > 0 ? '+Inf' : '-Inf';
}

function escaped(text: string): string {
  if (!/[\\"\n]/.test(text)) return text;
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
