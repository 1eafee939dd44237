/**
 * What one process keeps of its load: every latency up to a bound and a sample beyond, and of fewer requests where the time went.
 *
 * Filled by the load, emptied once at its end. While requests run it only stores numbers and the server's text as it came: taking
 * budgets apart costs more than a lean request, and it would be the client's CPU that is reported.
 */
import { type BudgetPhase, budgetOf, parseServerTiming } from '../client/budget.js';
import type { Call } from './call.js';
import type { PhaseResult } from './results.js';
import { createRandom, mean, median } from './statistics.js';

/** Kept of one load: 512 KiB of latencies, and enough rows for a median's third digit. */
const MAX_LATENCIES = 65_536;
const MAX_ROWS = 4096;

const SEED = 0x5eed;
/** Open loads: from when a request was due until it was sent. */
const LATE = 'late';

/** Fields of a row, a number each; the call they are copied from is used again. */
const FIELDS = 11;
type Tuple = readonly [number, number, number, number, number, number, number, number, number, number, number];

/** One request's time, explained. */
interface Row {
  readonly wallMs: number;
  readonly phases: readonly BudgetPhase[];
}

export interface Recorded {
  /** All that were answered; times are of those beyond the ramp. */
  readonly requests: number;
  readonly failures: number;
  readonly firstFailure?: string;
  readonly latenciesMs: Float64Array;
  readonly meanMs: number;
  readonly maxMs: number;
  readonly phases: readonly PhaseResult[];
  readonly explainedShare: number;
  readonly transitShare: number;
}

export class Recorder {
  readonly #random = createRandom(SEED);
  readonly #latencies = new Float64Array(MAX_LATENCIES);
  /** Plain numbers, so that the garbage collector has nothing to carry but the texts. */
  readonly #rows = new Float64Array(MAX_ROWS * FIELDS);
  readonly #timings: (string | undefined)[] = [];
  #requests = 0;
  /** Of them those whose time counts. */
  #timed = 0;
  #failures = 0;
  #firstFailure: string | undefined;
  #sumMs = 0;
  #maxMs = 0;

  /** An answered call whose time counts; `endedMs` is the load's own stamp. */
  answered(call: Call, endedMs: number): void {
    this.#requests++;
    const latencyMs = endedMs - call.due;
    this.#sumMs += latencyMs;
    if (latencyMs > this.#maxMs) this.#maxMs = latencyMs;
    const index = this.#timed++;
    const latencyAt = this.#place(index, MAX_LATENCIES);
    if (latencyAt >= 0) this.#latencies[latencyAt] = latencyMs;
    const rowAt = this.#place(index, MAX_ROWS);
    if (rowAt >= 0) this.#keep(rowAt, call, endedMs);
  }

  /** An answered call of the ramp, whose time is not that of the load. */
  ramped(): void {
    this.#requests++;
  }

  #keep(at: number, call: Call, endedMs: number): void {
    const rows = this.#rows;
    let field = at * FIELDS;
    rows[field++] = call.due;
    rows[field++] = call.startedMs;
    rows[field++] = endedMs;
    rows[field++] = call.called;
    rows[field++] = call.encoded;
    rows[field++] = call.sent;
    rows[field++] = call.firstByte;
    rows[field++] = call.lastByte;
    rows[field++] = call.decoded;
    rows[field++] = call.requestBytes;
    rows[field++] = call.responseBytes;
    this.#timings[at] = call.serverTiming;
  }

  #row(at: number): Row {
    const fields = this.#rows.subarray(at * FIELDS, (at + 1) * FIELDS);
    const [due, startedMs, endedMs, called, encoded, sent, firstByte, lastByte, decoded, requestBytes, responseBytes] =
      fields as unknown as Tuple;
    const stamps = { called, began: called, encoded, sent, firstByte, lastByte, decoded };
    const budget = budgetOf(stamps, parseServerTiming(this.#timings[at]), requestBytes, responseBytes);
    const late: BudgetPhase = { side: 'client', name: LATE, ms: startedMs - due };
    return { wallMs: endedMs - due, phases: [late, ...budget.phases] };
  }

  failed(reason: string, count = 1): void {
    this.#failures += count;
    this.#firstFailure ??= reason;
  }

  /** Where the sample of number `index` goes so that all have the same chance to be kept; -1 = nowhere. */
  #place(index: number, places: number): number {
    if (index < places) return index;
    const place = Math.floor(this.#random() * (index + 1));
    return place < places ? place : -1;
  }

  finish(): Recorded {
    const timed = this.#timed;
    return {
      requests: this.#requests,
      failures: this.#failures,
      ...(this.#firstFailure === undefined ? {} : { firstFailure: this.#firstFailure }),
      latenciesMs: this.#latencies.slice(0, Math.min(timed, MAX_LATENCIES)),
      meanMs: timed === 0 ? 0 : this.#sumMs / timed,
      maxMs: this.#maxMs,
      ...explain(this.#timings.map((_, at) => this.#row(at))),
    };
  }
}

/** Phases of all rows, and the shares of the wall time that the phases explain and that nobody saw. */
function explain(rows: readonly Row[]): Pick<Recorded, 'phases' | 'explainedShare' | 'transitShare'> {
  if (rows.length === 0) return { phases: [], explainedShare: 0, transitShare: 0 };
  const columns = new Map<string, { readonly phase: BudgetPhase; readonly ms: Float64Array }>();
  const explained = new Float64Array(rows.length);
  const transit = new Float64Array(rows.length);
  for (const [index, row] of rows.entries()) {
    let sumMs = 0;
    for (const phase of row.phases) {
      sumMs += phase.ms;
      const key = `${phase.side} ${phase.name}`;
      let column = columns.get(key);
      if (column === undefined) columns.set(key, (column = { phase, ms: new Float64Array(rows.length) }));
      column.ms[index] = phase.ms;
      if (phase.side === 'between') transit[index] = phase.ms / row.wallMs;
    }
    explained[index] = sumMs / row.wallMs;
  }
  // Nobody is late who asks when the last answer has come.
  const used = [...columns.values()].filter(({ phase, ms }) => phase.name !== LATE || ms.some((value) => value > 0));
  const phases = used.map(({ phase: { side, name }, ms }) => ({ side, name, medianMs: median(ms), meanMs: mean(ms) }));
  return { phases, explainedShare: median(explained), transitShare: median(transit) };
}
