/**
 * Figures as text: the same rounding and units in the table, the report, the plots and the verdict.
 *
 * Called by all reports. Pure. A figure that is null or not finite is `–`, never `NaN` or `null`; must not know what it formats.
 */
import { printable } from '../base/errors.js';
import type { Interval } from './results.js';

export const NO_FIGURE = '–';

/** A figure that could not be had: JSON writes NaN and Infinity as null, so all three are the same. */
export function isFigure(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 12345. */
export function digits(value: number | null | undefined): string {
  if (!isFigure(value)) return NO_FIGURE;
  const size = Math.abs(value);
  if (size >= 99.95 || size === 0) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  if (size >= 0.9995) return value.toFixed(2);
  if (size >= 0.00995) return value.toFixed(3);
  return size < 0.00005 ? '0' : value.toFixed(4);
}

/** `1.23 ms`; seconds from 10,000 ms on. */
export function milliseconds(ms: number | null | undefined): string {
  if (!isFigure(ms)) return NO_FIGURE;
  return ms >= 10_000 ? `${digits(ms / 1000)} s` : `${digits(ms)} ms`;
}

/** `640 B`, `1.95 KB`, `3.81 MB`; 1024 of one are one of the next. */
export function byteSize(bytes: number | null | undefined): string {
  if (!isFigure(bytes)) return NO_FIGURE;
  if (bytes < 1024) return `${bytes.toFixed(0)} B`;
  return bytes < 1024 * 1024 ? `${digits(bytes / 1024)} KB` : `${digits(bytes / 1024 / 1024)} MB`;
}

/** A share of 1 as `12 %`; below ten with one decimal. */
export function percent(share: number | null | undefined): string {
  if (!isFigure(share)) return NO_FIGURE;
  const value = share * 100;
  return `${Math.abs(value) < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** `2.1x`; `–` where the divisor is 0. */
export function factor(dividend: number | null | undefined, divisor: number | null | undefined): string {
  if (!isFigure(dividend) || !isFigure(divisor) || divisor === 0) return NO_FIGURE;
  return `${digits(dividend / divisor)}x`;
}

/** `1.23 (1.20–1.27)`; the value alone where low and high print the same. */
export function interval({ value, low, high }: Interval): string {
  const [from, to] = [digits(low), digits(high)];
  return from === to ? digits(value) : `${digits(value)} (${from}–${to})`;
}

/** `12,345`: counts. */
export function count(value: number | null | undefined): string {
  return isFigure(value) ? value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ',') : NO_FIGURE;
}

/** A name that a server or a user gave, on one line and without control characters. */
export function plainName(name: string): string {
  return printable(name, 80);
}

/** A name for a column of a terminal's table. */
export function shortName(name: string, length = 22): string {
  const plain = plainName(name);
  return plain.length > length ? `${plain.slice(0, length - 1)}…` : plain;
}
