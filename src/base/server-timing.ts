/**
 * Prints lengths of time as a `Server-Timing` value: `receive;dur=0.012, decode;dur=0.034, ..., total;dur=1.234`.
 *
 * Called by `timeline.ts` for every reply, so it is written as bytes and becomes a string once: put together from strings, the text was a
 * rope of forty that had to be made one when it was sent, at three times the cost. Most replies take less than ten milliseconds, so all
 * their numbers have one digit before the point: they go into a text that is there already but for its digits.
 */

/** Prints `lengths` by their names and then `total`, in milliseconds with three decimals. */
export type PrintTiming = (lengths: ArrayLike<number>, total: number) => string;

const ZERO = 0x30;
const POINT = 0x2e;
/** Bytes of a length in milliseconds: more digits than a year has. */
const NUMBER_BYTES = 24;
const LARGEST = 1e15;
/** What is below it is printed as `d.ddd`. */
const SHORT_MS = 9.9995;

/** A printer for lengths of these `names`, which are parts of the total; the one called `optional` is left out where it is 0. */
export function createTimingPrinter(names: readonly string[], optional: string): PrintTiming {
  const heads = [...names, 'total'].map((name, i) => Buffer.from(`${i === 0 ? '' : ', '}${name};dur=`, 'latin1'));
  const left = names.indexOf(optional);
  const bytes = Buffer.alloc(heads.reduce((sum, head) => sum + head.length + NUMBER_BYTES, 0));
  const printShort = createShortPrinter(names, left);
  return (lengths, total) => {
    if (total < SHORT_MS && (left < 0 || lengths[left] === 0)) return printShort(lengths, total);
    let at = 0;
    for (let i = 0; i < heads.length; i++) {
      const ms = i < names.length ? lengths[i]! : total;
      if (i === left && ms === 0) continue;
      const head = heads[i]!;
      for (let k = 0; k < head.length; k++) bytes[at++] = head[k]!;
      at = printMs(bytes, at, ms);
    }
    return bytes.toString('latin1', 0, at);
  };
}

/** Prints totals below {@link SHORT_MS} of which the length at `left` is 0. */
function createShortPrinter(names: readonly string[], left: number): PrintTiming {
  const printed = names.map((_, i) => i).filter((i) => i !== left);
  const parts = [...printed.map((i) => names[i]!), 'total'].map((name) => `${name};dur=0.000`);
  const bytes = Buffer.from(parts.join(', '), 'latin1');
  /** Where the numbers stand. */
  const places: number[] = [];
  let end = -', '.length;
  for (const part of parts) {
    end += ', '.length + part.length;
    places.push(end - '0.000'.length);
  }
  return (lengths, total) => {
    for (let i = 0; i < printed.length; i++) printShortMs(bytes, places[i]!, lengths[printed[i]!]!);
    printShortMs(bytes, places[printed.length]!, total);
    return bytes.toString('latin1');
  };
}

/** Writes `ms`, which is below {@link SHORT_MS}, at `at`; the point is there. */
function printShortMs(bytes: Buffer, at: number, ms: number): void {
  const us = (ms * 1e3 + 0.5) | 0;
  const tens = (us / 10) | 0;
  const hundreds = (us / 100) | 0;
  const thousands = (us / 1000) | 0;
  bytes[at] = ZERO + thousands;
  bytes[at + 2] = ZERO + hundreds - 10 * thousands;
  bytes[at + 3] = ZERO + tens - 10 * hundreds;
  bytes[at + 4] = ZERO + us - 10 * tens;
}

/** Writes `ms` with three decimals at `at`; returns where it ends. */
function printMs(bytes: Buffer, at: number, ms: number): number {
  const us = Math.round(ms * 1e3);
  let whole = Math.floor(us / 1e3);
  const rest = us - whole * 1e3;
  let unit = 1;
  while (whole >= 10 * unit && unit < LARGEST) unit *= 10;
  for (; unit >= 1; unit /= 10) {
    const digit = Math.floor(whole / unit);
    bytes[at++] = ZERO + digit;
    whole -= digit * unit;
  }
  const tenths = Math.floor(rest / 100);
  const others = rest - 100 * tenths;
  const hundredths = Math.floor(others / 10);
  bytes[at] = POINT;
  bytes[at + 1] = ZERO + tenths;
  bytes[at + 2] = ZERO + hundredths;
  bytes[at + 3] = ZERO + others - 10 * hundredths;
  return at + 4;
}
