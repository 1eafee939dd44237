/**
 * A growing byte buffer for JSON text: strings, and numbers as the shortest digits that read back to the same value.
 *
 * Called by `tensor-json-print.ts`. Callers reserve room with {@link JsonWriter.reserve} before they write numbers, which then
 * check nothing. Owns its buffer; `take` hands out a copy of exact size.
 */

import { POWERS_OF_TEN } from './json-number.js';
import type { MessagePool } from './message-pool.js';

/** The most bytes that one number takes, with its comma. */
export const NUMBER_BYTES = 32;

export class JsonWriter {
  buffer: Buffer;
  /** Bytes written. */
  at = 0;

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafeSlow(size);
  }

  /** Makes room for `bytes` more. */
  reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.at + bytes, 2 * this.buffer.length));
    this.buffer.copy(grown, 0, 0, this.at);
    this.buffer = grown;
  }

  /**
   * What was written, as a copy followed by `extra` bytes that the caller fills, in memory from `memory` or else in memory of its own,
   * which can be moved to another thread when it is large; the writer is empty afterwards.
   */
  take(extra = 0, memory?: MessagePool): Buffer<ArrayBuffer> {
    const size = this.at + extra;
    const taken = memory?.take(size) ?? (size < 4096 ? Buffer.allocUnsafe(size) : Buffer.allocUnsafeSlow(size));
    this.buffer.copy(taken, 0, 0, this.at);
    this.at = 0;
    return taken;
  }

  /** JSON text as it is. */
  text(text: string): void {
    this.reserve(3 * text.length);
    this.at += this.buffer.write(text, this.at);
  }

  byte(byte: number): void {
    this.buffer[this.at++] = byte;
  }

  /** true or false. */
  word(value: boolean): void {
    this.ascii(value ? 'true' : 'false');
  }

  /** A whole number within 2^53. */
  integer(value: number): void {
    let rest = value;
    if (rest < 0) {
      this.byte(0x2d);
      rest = -rest;
    }
    // Digits come last first, so their number is needed before; nine at a time stay within 32-bit arithmetic.
    const billions = rest >= 1e9 ? Math.floor(rest / 1e9) : 0;
    if (billions > 0) {
      this.integer(billions);
      this.digits(rest - billions * 1e9, 9);
    } else this.digits(rest, digitCount(rest));
  }

  /** The last `count` digits of `value` < 2^31. */
  private digits(value: number, count: number): void {
    const buffer = this.buffer;
    let rest = value | 0;
    for (let at = this.at + count - 1; at >= this.at; at--) {
      const tens = (rest / 10) | 0;
      buffer[at] = 0x30 + rest - tens * 10;
      rest = tens;
    }
    this.at += count;
  }

  /** A 64-bit integer from its two words. */
  long(low: number, high: number, signed: boolean): void {
    const upper = signed ? high | 0 : high;
    const value = upper * 2 ** 32 + low;
    if (Number.isSafeInteger(value)) this.integer(value);
    else this.ascii(((BigInt(upper) << 32n) | BigInt(low)).toString());
  }

  /** A double as JavaScript prints it, but NaN and the infinities as bare tokens, and -0 as -0.0. */
  float64(value: number): void {
    if (Number.isInteger(value) && value > -1e15 && value < 1e15 && !Object.is(value, -0)) this.integer(value);
    else if (Object.is(value, -0)) this.ascii('-0.0');
    else this.ascii(String(value));
  }

  /** A float32 as the shortest of 6 to 9 digits that reads back to it, laid out as {@link float64} does. */
  float32(value: number): void {
    if (value === 0 || value - value !== 0) {
      this.float64(value);
      return;
    }
    let rest = value;
    if (rest < 0) {
      this.byte(0x2d);
      rest = -rest;
    }
    let exponent = 0;
    while (exponent < 38 && rest >= POWERS_OF_TEN[exponent + 1]!) exponent++;
    while (rest < power(exponent)) exponent--;
    // Below the smallest normal number fewer digits may do.
    for (let digits = rest < 1.1754943508222875e-38 ? 1 : 6; digits <= 9; digits++) {
      const shift = digits - 1 - exponent;
      const scaled = shift >= 0 ? rest * POWERS_OF_TEN[shift]! : rest / POWERS_OF_TEN[-shift]!;
      const decimal = Math.floor(scaled + 0.5);
      if (readsBack(decimal, -shift, rest)) {
        this.decimal(decimal, digits, exponent);
        return;
      }
    }
    this.ascii(String(rest));
  }

  /** `decimal`, which has `digits` digits (or is 10^digits), as a number whose first digit counts 10^exponent. */
  private decimal(decimal: number, digits: number, exponent: number): void {
    let rest = decimal | 0;
    let count = digits;
    if (rest === POWERS_OF_TEN[digits]) {
      rest = 1;
      count = 1;
      exponent++;
    }
    while (count > 1) {
      const tens = (rest / 10) | 0;
      if (tens * 10 !== rest) break;
      rest = tens;
      count--;
    }
    if (exponent >= 0 && exponent < 21) {
      if (count <= exponent + 1) {
        this.digits(rest, count);
        for (let i = count; i <= exponent; i++) this.byte(0x30);
      } else this.pointed(rest, count, exponent + 1);
    } else if (exponent < 0 && exponent >= -6) {
      this.byte(0x30);
      this.byte(0x2e);
      for (let i = -1; i > exponent; i--) this.byte(0x30);
      this.digits(rest, count);
    } else {
      if (count === 1) this.digits(rest, 1);
      else this.pointed(rest, count, 1);
      this.byte(0x65);
      this.byte(exponent < 0 ? 0x2d : 0x2b);
      this.digits(Math.abs(exponent), exponent > -10 && exponent < 10 ? 1 : 2);
    }
  }

  /** `count` digits with a point behind the first `whole`. */
  private pointed(value: number, count: number, whole: number): void {
    const buffer = this.buffer;
    const point = this.at + whole;
    let rest = value;
    for (let at = this.at + count; at >= this.at; at--) {
      if (at === point) {
        buffer[at] = 0x2e;
        continue;
      }
      const tens = (rest / 10) | 0;
      buffer[at] = 0x30 + rest - tens * 10;
      rest = tens;
    }
    this.at += count + 1;
  }

  private ascii(text: string): void {
    this.at += this.buffer.write(text, this.at, 'latin1');
  }
}

function digitCount(value: number): number {
  let count = 1;
  while (count < 10 && value >= POWERS_OF_TEN[count]!) count++;
  return count;
}

/** 10^exponent for -63 to 63. */
function power(exponent: number): number {
  return exponent >= 0 ? POWERS_OF_TEN[exponent]! : 1 / POWERS_OF_TEN[-exponent]!;
}

/** Whether decimal * 10^exponent, read as a double and rounded to float32, is `value`. */
function readsBack(decimal: number, exponent: number, value: number): boolean {
  const read = exponent < 0 ? decimal / POWERS_OF_TEN[-exponent]! : decimal * POWERS_OF_TEN[exponent]!;
  if (exponent >= -22 && exponent <= 22) return Math.fround(read) === value;
  // The power is inexact: both ends of the error's interval must round to the value.
  return Math.fround(read * (1 - 4e-15)) === value && Math.fround(read * (1 + 4e-15)) === value;
}
