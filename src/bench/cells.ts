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

/** Of a request and its answer. */
export function wireBytes({ sentBytes, receivedBytes }: CellResult): number {
  return sentBytes + receivedBytes;
}

/** `8 at a time`, `200/s`. */
export function loadLabel(load: Load): string {
  return load.kind === 'closed' ? `${count(load.concurrency)} at a time` : `${digits(load.ratePerSecond)}/s`;
}

/** What the cells of one load are called; the rates of open loops may differ from payload to payload, so they are one. */
export interface LoadName {
  /** `c8`, `open`; `open-2` where a payload was asked at a second, higher rate. Fit for names of files. */
  readonly key: string;
  /** `8 at a time`; `200/s`, or `open loop` where rates differ. */
  readonly label: string;
}

/** Cells of one load. */
export interface LoadGroup extends LoadName {
  readonly kind: Load['kind'];
  readonly cells: readonly CellResult[];
}

/** Closed loops by their callers, then open ones by their rate. */
export function loadGroups(cells: readonly CellResult[]): LoadGroup[] {
  const groups = new Map<string, CellResult[]>();
  const add = (key: string, cell: CellResult) => groups.set(key, [...(groups.get(key) ?? []), cell]);
  const weight = ({ load }: CellResult) => (load.kind === 'closed' ? load.concurrency : 1e9 + load.ratePerSecond);
  const ratesOf = new Map<string, Set<number>>();
  for (const cell of [...cells].sort((a, b) => weight(a) - weight(b))) {
    const { model, load } = cell;
    if (load.kind === 'closed') {
      add(`c${load.concurrency}`, cell);
      continue;
    }
    const payload = JSON.stringify([model, payloadOf(cell).key]);
    const rates = ratesOf.get(payload) ?? new Set();
    ratesOf.set(payload, rates.add(load.ratePerSecond));
    add(rates.size === 1 ? 'open' : `open-${rates.size}`, cell);
  }
  return [...groups].map(([key, own]) => {
    const labels = [...new Set(own.map(({ load }) => loadLabel(load)))];
    const many = key === 'open' ? 'open loop' : `open loop ${key.slice('open-'.length)}`;
    return { key, label: labels.length === 1 ? labels[0]! : many, kind: own[0]!.load.kind, cells: own };
  });
}

/** `Closed loop, 8 at a time`, `Open loop`. */
export function loadTitle({ kind, label }: LoadGroup): string {
  const loop = kind === 'closed' ? 'Closed loop' : 'Open loop';
  return label.startsWith('open loop') ? `O${label.slice(1)}` : `${loop}, ${label}`;
}

/** All cells that differ in their arm alone, arms from the simplest on. */
export interface CellGroup {
  readonly model: string;
  readonly payload: Payload;
  readonly load: Load;
  readonly loadName: LoadName;
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
  const loads = loadGroups(cells);
  return modelsOf(cells).flatMap((model) =>
    loads.flatMap(({ key, label, cells: ofLoad }) => {
      const own = ofLoad.filter((cell) => cell.model === model);
      return payloadsOf(own).map((payload) => {
        const ofPayload = own
          .filter((cell) => payloadOf(cell).key === payload.key)
          .sort((a, b) => simplicity(a.arm) - simplicity(b.arm));
        return { model, payload, load: ofPayload[0]!.load, loadName: { key, label }, cells: ofPayload };
      });
    }),
  );
}

function uniqueBy<T>(values: readonly T[], keyOf: (value: T) => string): T[] {
  return [...new Map(values.map((value) => [keyOf(value), value])).values()];
}
