/**
 * The `grpc-timeout` header: how long the caller waits.
 *
 * Called by the gate. grpc-js's own parser is unanchored and 32 bits wide: it takes `-1S` and `junk1Sx`, and lets the valid `1000H`
 * expire at once. So the header is read here and the gate keeps the deadline.
 */

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` value (at most 8 digits and a unit, as the protocol says); undefined when malformed. */
export function parseGrpcTimeoutMs(text: string): number | undefined {
  const digits = text.length - 1;
  const unit = UNIT_MS[text[digits] ?? ''];
  if (unit === undefined || digits < 1 || digits > 8) return undefined;
  let count = 0;
  for (let i = 0; i < digits; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return undefined;
    count = count * 10 + digit;
  }
  return count * unit;
}
