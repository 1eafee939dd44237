/**
 * Prints lengths of time as a `Server-Timing` value: `receive;dur=0.012, decode;dur=0.034, ..., total;dur=1.234`.
 *
 * Called by `timeline.ts` for every reply, so it is written as bytes and becomes a string once: put together from strings, the text was a
 * rope of forty that had to be made one when it was sent, at three times the cost.
 */

/** Prints `lengths` by their names and then `total`, in milliseconds with three decimals. */
export type PrintTiming = (lengths: ArrayLike<number>, total: number) => string;

const ZERO = 0x30;
const POINT = 0x2e;
/** Bytes of a length in milliseconds: more digits than a year has. */
const NUMBER_BYTES = 24;
const LARGEST = 1e15;

/** A printer for lengths of these `names`; the one called `optional` is left out where it is 0. */
export function createTimingPrinter(names: readonly string[], optional: string): PrintTiming {
  const heads = [...names, 'total'].map((name, i) => Buffer.from(`${i === 0 ? '' : ', '}${name};dur=`, 'latin1'));
  const left = names.indexOf(optional);
  const bytes = Buffer.alloc(heads.reduce((sum, head) => sum + head.length + NUMBER_BYTES, 0));
  return (lengths, total) => {
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
