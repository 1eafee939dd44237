/**
 * The figures of one cell, of what its rounds measured.
 *
 * Called by `run-cells.ts`. Pure, but for the notes that it tells.
 */
import type { Payload, Probe, RoundMeasurement } from './load-types.js';
import { type ArmSpec, armName, type CellResult, type Load, type PhaseResult } from './results.js';
import { bootstrap, histogramOf, median, percentileIntervals } from './statistics.js';

export interface MeasuredCell {
  readonly payload: Payload;
  readonly arm: ArmSpec;
  readonly load: Load;
  readonly probe: Probe;
  readonly answersEqual: boolean;
  readonly rounds: readonly RoundMeasurement[];
}

/** Of at least one round; undefined where no request was answered. `onNote` hears what deserves a sentence. */
export function cellResult(measured: MeasuredCell, onNote?: (note: string) => void): CellResult | undefined {
  const { payload, arm, load, probe, answersEqual, rounds } = measured;
  const total = (figure: (round: RoundMeasurement) => number): number =>
    rounds.reduce((sum, round) => sum + figure(round), 0);
  // A round that nobody was answered in has no time to tell; its failures and seconds count.
  const answered = rounds.filter((round) => round.requests > 0);
  const middle = (figure: (round: RoundMeasurement) => number): number => median(answered.map(figure));
  const requests = total((round) => round.requests);
  const failures = total((round) => round.failures);
  const serverKnown = rounds.every(({ serverCpuUs }) => serverCpuUs !== null);
  const serverCpuUs = total((round) => round.serverCpuUs ?? 0);
  const seconds = total((round) => round.seconds);
  if (failures > 0) {
    const reason = rounds.find(({ firstFailure }) => firstFailure !== undefined)?.firstFailure;
    const name = `${payloadName(payload)}, ${loadName(load)}, ${armName(arm)}`;
    onNote?.(`${name}: ${failures} of ${requests + failures} requests failed: ${reason}`);
  }
  if (requests === 0) return undefined;
  const phases = phasesOf(answered);
  const phase = (side: PhaseResult['side'], name: string): number | null =>
    phases.find((each) => each.side === side && each.name === name)?.medianMs ?? null;
  const [p50Ms, p95Ms, p99Ms] = percentileIntervals(
    answered.map(({ latenciesMs }) => histogramOf(latenciesMs)),
    [50, 95, 99],
  );
  return {
    model: payload.model,
    payloadKb: payload.payloadKb,
    requestTensorBytes: probe.requestTensorBytes,
    responseTensorBytes: probe.responseTensorBytes,
    arm,
    load,
    requests,
    failures,
    p50Ms: p50Ms!,
    p95Ms: p95Ms!,
    p99Ms: p99Ms!,
    meanMs: total((round) => round.meanMs * round.requests) / requests,
    maxMs: Math.max(...rounds.map(({ maxMs }) => maxMs)),
    perSecond: bootstrap(rounds, perSecond),
    phases,
    explainedShare: middle((round) => round.explainedShare),
    transitShare: middle((round) => round.transitShare),
    clientEncodeMs: phase('client', 'encode') ?? 0,
    clientDecodeMs: phase('client', 'decode') ?? 0,
    serverDecodeMs: phase('server', 'decode'),
    serverEncodeMs: phase('server', 'encode'),
    sentBytes: total((round) => round.sentBytes) / (requests + failures),
    receivedBytes: total((round) => round.receivedBytes) / (requests + failures),
    clientCpuUs: total((round) => round.clientCpuUs) / (requests + failures),
    serverCpuUs: serverKnown ? serverCpuUs / (requests + failures) : null,
    clientCpuShare: middle((round) => round.clientCpuShare),
    serverCpuShare: serverKnown ? serverCpuUs / 1e6 / seconds : null,
    answersEqual,
  };
}

function perSecond(rounds: readonly RoundMeasurement[]): number {
  let requests = 0;
  let seconds = 0;
  for (const round of rounds) {
    requests += round.requests;
    seconds += round.seconds;
  }
  return requests / seconds;
}

/** Of each phase the median of the rounds' medians and the mean of all requests, in the order in which they came. */
function phasesOf(rounds: readonly RoundMeasurement[]): PhaseResult[] {
  const first = rounds.map(({ phases }) => phases).reduce((one, other) => (other.length > one.length ? other : one));
  const requests = rounds.reduce((sum, round) => sum + round.requests, 0);
  return first.map(({ side, name }) => {
    const same = rounds.map(({ phases }) => phases.find((phase) => phase.side === side && phase.name === name));
    const sum = rounds.reduce((total, round, index) => total + (same[index]?.meanMs ?? 0) * round.requests, 0);
    return { side, name, medianMs: median(same.map((phase) => phase?.medianMs ?? 0)), meanMs: sum / requests };
  });
}

export function payloadName({ model, version, payloadKb }: Payload): string {
  const name = version === undefined ? model : `${model} version ${version}`;
  return payloadKb === null ? name : `${name} ${payloadKb} KB`;
}

export function loadName(load: Load): string {
  return load.kind === 'closed' ? `${load.concurrency} at a time` : `${load.ratePerSecond} a second`;
}
