/**
 * The order that all reports go through cells in: models as they came, payloads by size, loads from light to heavy, arms from the
 * simplest on.
 *
 * Called by all reports. Pure. Owns what one payload and one load is called; must not judge a figure.
 */
import { byteSize, count, digits, isFigure } from './figures.js';
import { type ArmSpec, armName, type BenchResults, type CellResult, type Interval, type Load } from './results.js';

/** The simplest to use first: what curl can send, what needs bytes put together, what needs a generated client; compression last. */
export const ARM_ORDER: readonly string[] = [
  'rest_json',
  'rest_binary',
  'rest_json+gzip',
  'rest_binary+gzip',
  'grpc_raw',
  'grpc_typed',
  'grpc_raw+gzip',
  'grpc_typed+gzip',
];

/** Position in {@link ARM_ORDER}. */
export function simplicity(arm: ArmSpec): number {
  return ARM_ORDER.indexOf(armName(arm));
}

/** Cells of one payload: what all arms were asked with. */
export interface Payload {
  /** The same for cells of the same payload of the same model. */
  readonly key: string;
  /** `100 KB`; `1.5 KB in, 4 KB out` for one from outside. */
  readonly label: string;
  /** For axes and interpolation; never below 1. */
  readonly bytes: number;
}

/** The payload of a cell: its column of the article, else the larger of the two directions. */
export function payloadOf({ payloadKb, requestTensorBytes, responseTensorBytes }: CellResult): Payload {
  if (payloadKb !== null)
    return { key: `${payloadKb}`, label: `${digitsOfKb(payloadKb)} KB`, bytes: Math.max(1, payloadKb * 1024) };
  return {
    key: `${requestTensorBytes}/${responseTensorBytes}`,
    label: `${byteSize(requestTensorBytes)} in, ${byteSize(responseTensorBytes)} out`,
    bytes: Math.max(1, ...[requestTensorBytes, responseTensorBytes].filter(isFigure)),
  };
}

function digitsOfKb(kb: number): string {
  return Number.isInteger(kb) ? kb.toFixed(0) : digits(kb);
}

/** `8 at a time`, `200/s`. */
export function loadLabel(load: Load): string {
  return load.kind === 'closed' ? `${count(load.concurrency)} at a time` : `${digits(load.ratePerSecond)}/s`;
}

/** For names of files: `c8`, `r200`. */
export function loadKey(load: Load): string {
  return load.kind === 'closed' ? `c${load.concurrency}` : `r${digits(load.ratePerSecond)}`;
}

/** All cells that differ in their arm alone, arms from the simplest on. */
export interface CellGroup {
  readonly model: string;
  readonly payload: Payload;
  readonly load: Load;
  readonly cells: readonly CellResult[];
}

/**
 * Cells in which something was answered; those without a figure have nothing to say but that they failed. A bound of an interval that
 * could not be had is the figure itself.
 */
export function answeredCells({ cells }: BenchResults): CellResult[] {
  return cells
    .filter(({ p50Ms, perSecond }) => isFigure(p50Ms.value) && isFigure(perSecond.value) && p50Ms.value > 0)
    .map((cell) => ({
      ...cell,
      p50Ms: bounded(cell.p50Ms),
      p95Ms: bounded(cell.p95Ms),
      p99Ms: bounded(cell.p99Ms),
      perSecond: bounded(cell.perSecond),
    }));
}

function bounded({ value, low, high }: Interval): Interval {
  return { value, low: isFigure(low) ? low : value, high: isFigure(high) ? high : value };
}

/** Models in the order of their first cell. */
export function modelsOf(cells: readonly CellResult[]): string[] {
  return [...new Set(cells.map(({ model }) => model))];
}

/** Closed loops by their callers, then open ones by their rate. */
export function loadsOf(cells: readonly CellResult[]): Load[] {
  const weight = (load: Load) => (load.kind === 'closed' ? load.concurrency : 1e9 + load.ratePerSecond);
  return uniqueBy(
    cells.map(({ load }) => load),
    loadKey,
  ).sort((a, b) => weight(a) - weight(b));
}

/** The smallest first. */
export function payloadsOf(cells: readonly CellResult[]): Payload[] {
  return uniqueBy(cells.map(payloadOf), ({ key }) => key).sort((a, b) => a.bytes - b.bytes);
}

/** The simplest first. */
export function armsOf(cells: readonly CellResult[]): ArmSpec[] {
  return uniqueBy(
    cells.map(({ arm }) => arm),
    armName,
  ).sort((a, b) => simplicity(a) - simplicity(b));
}

/** Model by model, load by load, payload by payload. */
export function cellGroups(cells: readonly CellResult[]): CellGroup[] {
  const groups: CellGroup[] = [];
  for (const model of modelsOf(cells)) {
    const ofModel = cells.filter((cell) => cell.model === model);
    for (const load of loadsOf(ofModel)) {
      const ofLoad = ofModel.filter((cell) => loadKey(cell.load) === loadKey(load));
      for (const payload of payloadsOf(ofLoad)) {
        const ofPayload = ofLoad.filter((cell) => payloadOf(cell).key === payload.key);
        groups.push({ model, load, payload, cells: ofPayload.sort((a, b) => simplicity(a.arm) - simplicity(b.arm)) });
      }
    }
  }
  return groups;
}

function uniqueBy<T>(values: readonly T[], keyOf: (value: T) => string): T[] {
  return [...new Map(values.map((value) => [keyOf(value), value])).values()];
}
