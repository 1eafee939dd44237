/**
 * The figures of client processes that shared one load, as one round's.
 *
 * Called by `load.ts`. Pure. The processes did the same to the same server, so a median of all is taken as the mean of theirs, weighted
 * by requests; latencies themselves are put together as they are.
 */
import type { Measured } from './load-messages.js';
import type { RoundMeasurement } from './load-types.js';
import type { PhaseResult } from './results.js';

export function mergeMeasured(parts: readonly Measured[], serverCpuUs: number | null): RoundMeasurement {
  const sum = (figure: (part: Measured) => number): number => parts.reduce((total, part) => total + figure(part), 0);
  const requests = sum((part) => part.requests);
  const weighted = (figure: (part: Measured) => number): number =>
    requests === 0 ? 0 : sum((part) => figure(part) * part.requests) / requests;
  const firstFailure = parts.find((part) => part.firstFailure !== undefined)?.firstFailure;
  const startedMs = Math.min(...parts.map((part) => part.startedMs));
  const endedMs = Math.max(...parts.map((part) => part.endedMs));
  return {
    requests,
    failures: sum((part) => part.failures),
    ...(firstFailure === undefined ? {} : { firstFailure }),
    seconds: (endedMs - startedMs) / 1000,
    latenciesMs: together(parts.map((part) => part.latenciesMs)),
    meanMs: weighted((part) => part.meanMs),
    maxMs: Math.max(...parts.map((part) => part.maxMs)),
    phases: mergePhases(parts, weighted),
    explainedShare: weighted((part) => part.explainedShare),
    transitShare: weighted((part) => part.transitShare),
    sentBytes: sum((part) => part.sentBytes),
    receivedBytes: sum((part) => part.receivedBytes),
    clientCpuUs: sum((part) => part.cpuUs),
    serverCpuUs,
    clientCpuShare: Math.max(...parts.map((part) => part.cpuUs / 1000 / (part.endedMs - part.startedMs))),
  };
}

function mergePhases(
  parts: readonly Measured[],
  weighted: (figure: (part: Measured) => number) => number,
): PhaseResult[] {
  const longest = parts.map(({ phases }) => phases).reduce((one, other) => (other.length > one.length ? other : one));
  return longest.map(({ side, name }) => {
    const find = (part: Measured): PhaseResult | undefined =>
      part.phases.find((phase) => phase.side === side && phase.name === name);
    return {
      side,
      name,
      medianMs: weighted((part) => find(part)?.medianMs ?? 0),
      meanMs: weighted((part) => find(part)?.meanMs ?? 0),
    };
  });
}

function together(parts: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
