/**
 * Numbers of a JSON text as tensor elements: floats as JSON.parse would read them, integers exact over their whole range.
 *
 * Called by `tensor-json-data.ts` per element, so nothing here allocates on the usual path.
 */
import { invalid, printable, type ServeError } from './errors.js';
import type { JsonReader } from './json-reader.js';

/** 10^0 to 10^22 are exact doubles; those above are the nearest double. */
export const POWERS_OF_TEN: readonly number[] = Array.from({ length: 64 }, (_, exponent) => Number(`1e${exponent}`));
/** Below this one more decimal digit still leaves the mantissa an exact integer. */
const MANTISSA_ROOM = 9e14;

/**
 * The number at the reader's position as the nearest double, for `single` correct after rounding to float32 as well. Takes NaN,
 * Infinity and -Infinity; throws when a finite number lies outside the type.
 */
export function readFloat(reader: JsonReader, single: boolean): number {
  const bytes = reader.bytes;
  const start = reader.at;
  let at = start;
  let byte = bytes[at] ?? 0;
  const negative = byte === 0x2d;
  if (negative) byte = bytes[++at] ?? 0;
  const firstDigit = at;
  let mantissa = 0;
  let exponent = 0;
  let exact = true;
  if (byte < 0x30 || byte > 0x39) return readSpecialFloat(reader);
  do {
    if (mantissa < MANTISSA_ROOM) mantissa = mantissa * 10 + (byte - 0x30);
    else {
      exponent++;
      exact &&= byte === 0x30;
    }
    byte = bytes[++at] ?? 0;
  } while (byte >= 0x30 && byte <= 0x39);
  if (bytes[firstDigit] === 0x30 && at - firstDigit > 1) throw numberFailure(reader, start);
  if (byte === 0x2e) {
    const point = at;
    byte = bytes[++at] ?? 0;
    while (byte >= 0x30 && byte <= 0x39) {
      if (mantissa < MANTISSA_ROOM) {
        mantissa = mantissa * 10 + (byte - 0x30);
        exponent--;
      } else exact &&= byte === 0x30;
      byte = bytes[++at] ?? 0;
    }
    if (at === point + 1) throw numberFailure(reader, start);
  }
  if (byte === 0x65 || byte === 0x45) {
    byte = bytes[++at] ?? 0;
    const minus = byte === 0x2d;
    if (minus || byte === 0x2b) byte = bytes[++at] ?? 0;
    if (byte < 0x30 || byte > 0x39) throw numberFailure(reader, start);
    let written = 0;
    do {
      if (written < 1e6) written = written * 10 + (byte - 0x30);
      byte = bytes[++at] ?? 0;
    } while (byte >= 0x30 && byte <= 0x39);
    exponent += minus ? -written : written;
  }
  reader.at = at;
  const value = scale(mantissa, exponent, exact, single) ?? Number(bytes.toString('latin1', firstDigit, at));
  if (single ? Math.fround(value) === Infinity : value === Infinity) {
    throw elementFailure(reader, start, `out of range of ${single ? 'FP32' : 'FP64'}`);
  }
  return negative ? -value : value;
}

/** mantissa * 10^exponent where a few multiplications give the right rounding; undefined where they may not. */
function scale(mantissa: number, exponent: number, exact: boolean, single: boolean): number | undefined {
  // Both operands exact: one correctly rounded operation (Clinger's fast path).
  if (exact && exponent >= -22 && exponent <= 22) {
    return exponent < 0 ? mantissa / POWERS_OF_TEN[-exponent]! : mantissa * POWERS_OF_TEN[exponent]!;
  }
  if (mantissa === 0) return 0;
  if (!single || exponent < -63 || exponent > 63) return undefined;
  // The 17 digits that many writers print for a float32: digits cut off at the 16th, an inexact power and two roundings are
  // together below 2e-15 of the value. When both ends of twice that interval round to one float32, it is the right one.
  const near = exponent < 0 ? mantissa / POWERS_OF_TEN[-exponent]! : mantissa * POWERS_OF_TEN[exponent]!;
  const low = Math.fround(near * (1 - 4e-15));
  return low === Math.fround(near * (1 + 4e-15)) ? low : undefined;
}

function readSpecialFloat(reader: JsonReader): number {
  const start = reader.at;
  const first = reader.bytes[start] ?? 0;
  if (first !== 0x4e && first !== 0x49 && first !== 0x2d) throw numberFailure(reader, start);
  reader.scanNumber();
  if (first === 0x4e) return Number.NaN;
  return first === 0x2d ? -Infinity : Infinity;
}

/** The integer at the reader's position; throws when it is no plain integer between `min` and `max` (at most 32 bits). */
export function readInteger(reader: JsonReader, min: number, max: number): number {
  const start = reader.at;
  const value = readShortInteger(reader);
  if (value === undefined || value < min || value > max) {
    throw elementFailure(reader, start, `out of range, expected an integer from ${min} to ${max}`);
  }
  return value;
}

/** The integer at the reader's position as low and high word into `words[at]` and `words[at + 1]`; throws when it does not fit. */
export function readLongInteger(reader: JsonReader, words: Uint32Array, at: number, signed: boolean): void {
  const start = reader.at;
  const value = readShortInteger(reader);
  if (value !== undefined) {
    if (value < 0 && !signed) throw elementFailure(reader, start, 'out of range of UINT64');
    const high = Math.floor(value / 2 ** 32);
    words[at] = value - high * 2 ** 32;
    words[at + 1] = high;
    return;
  }
  // BigInt() of a long text costs its length squared; 21 characters hold every 64-bit integer.
  const long = reader.at - start > 21 ? undefined : BigInt(reader.bytes.toString('latin1', start, reader.at));
  const fits = long !== undefined && (signed ? BigInt.asIntN(64, long) === long : BigInt.asUintN(64, long) === long);
  if (!fits) throw elementFailure(reader, start, `out of range of ${signed ? 'INT64' : 'UINT64'}`);
  words[at] = Number(BigInt.asUintN(32, long));
  words[at + 1] = Number(BigInt.asUintN(32, long >> 32n));
}

/** The integer as an exact double, or undefined (and passed over) when it has more than 15 digits. */
function readShortInteger(reader: JsonReader): number | undefined {
  const bytes = reader.bytes;
  const start = reader.at;
  let at = start;
  let byte = bytes[at] ?? 0;
  const negative = byte === 0x2d;
  if (negative) byte = bytes[++at] ?? 0;
  const firstDigit = at;
  let value = 0;
  while (byte >= 0x30 && byte <= 0x39) {
    if (at - firstDigit < 16) value = value * 10 + (byte - 0x30);
    byte = bytes[++at] ?? 0;
  }
  const digits = at - firstDigit;
  if (digits === 0 || (bytes[firstDigit] === 0x30 && digits > 1)) throw numberFailure(reader, start);
  if (byte === 0x2e || byte === 0x65 || byte === 0x45) throw elementFailure(reader, start, 'not an integer');
  reader.at = at;
  if (digits > 15) return undefined;
  return negative && value !== 0 ? -value : value;
}

function numberFailure(reader: JsonReader, start: number): ServeError {
  return elementFailure(reader, start, 'not a number');
}

/** The error for the element that starts at `start`, with a look at what stands there. */
export function elementFailure(reader: JsonReader, start: number, what: string): ServeError {
  const bytes = reader.bytes;
  let end = start;
  while (end < bytes.length && end < start + 48 && !',]} \t\r\n'.includes(String.fromCharCode(bytes[end]!))) end++;
  const found = printable(bytes.toString('utf8', start, Math.max(end, start + 1)), 48);
  return invalid(`Unable to parse 'data' at byte ${start}: '${found}' is ${what}`);
}
