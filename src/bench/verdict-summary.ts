/**
 * The verdict in a handful of sentences, for who reads no table, and what to take as a table of payloads and loads.
 *
 * Called by the verdict's text and the Markdown report. Pure.
 */
import { ARM_ORDER, type LoadName, loadLabel } from './cells.js';
import { byteSize, NO_FIGURE, percent, plainName } from './figures.js';
import type { Recommendation } from './recommendation.js';
import { armName } from './results.js';
import { lightest } from './serialization.js';
import type { Verdict } from './verdict.js';

/** Sentences that a run has figures for; none where nothing was answered. */
export function summarySentences(verdict: Verdict): string[] {
  return [...taken(verdict), ...steps(verdict), ...crossed(verdict), ...serialized(verdict), ...matrix(verdict)];
}

function taken({ recommendations }: Verdict): string[] {
  const all = recommendations.length;
  if (all === 0) return [];
  const counted = ARM_ORDER.map((name) => ({
    name,
    times: recommendations.filter(({ arm }) => armName(arm) === name).length,
  }))
    .filter(({ times }) => times > 0)
    .sort((a, b) => b.times - a.times)
    .map(({ name, times }) => `${name} in ${times}`);
  const tied = recommendations.filter(({ tiedWith }) => tiedWith.length > 0).length;
  const noise = tied > 0 ? `; in ${tied} of them noise can’t tell it from others and it is the simplest` : '';
  return [
    `Of ${all} ${all === 1 ? 'combination' : 'combinations'} of model, payload and load, take ${counted.join(', ')}${noise}.`,
  ];
}

function steps({ changes }: Verdict): string[] {
  return [
    ...spread(
      'Binary tensors instead of JSON, still over REST',
      changes.flatMap(({ encoding }) => encoding?.savedShare ?? []),
    ),
    ...spread(
      'gRPC instead of REST, both with binary tensors',
      changes.flatMap(({ protocol }) => protocol?.savedShare ?? []),
    ),
  ];
}

/** The middle case and the middle half: the outer ones are noise as a rule. */
function spread(change: string, shares: readonly number[]): string[] {
  if (shares.length === 0) return [];
  const sorted = [...shares].sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.round((sorted.length - 1) * part)]!;
  const words = (share: number) => `${percent(Math.abs(share))} ${share < 0 ? 'lost' : 'saved'}`;
  const one = `${change}: ${words(at(0.5))} of the median latency`;
  return [
    sorted.length < 4
      ? `${one}.`
      : `${one} in the middle case, from ${words(at(0.25))} to ${words(at(0.75))} in the middle half.`,
  ];
}

function crossed({ crossovers }: Verdict): string[] {
  const pair = crossovers.filter(({ arms }) => arms[0] === 'rest_json' && arms[1] === 'grpc_raw');
  const sizes = pair
    .flatMap(({ crossings }) => crossings.filter(({ clear, fasterBeyond }) => clear && fasterBeyond === 'grpc_raw'))
    .map(({ bytes }) => bytes)
    .sort((a, b) => a - b);
  if (sizes.length === 0) return [];
  const [least, most] = [byteSize(sizes[0]), byteSize(sizes.at(-1))];
  return [`gRPC raw overtakes REST JSON at ${least === most ? least : `${least} to ${most}`}, by model and load.`];
}

function serialized({ serialization }: Verdict): string[] {
  const json = lightest(serialization).filter(({ arm }) => armName(arm) === 'rest_json');
  const most = [...json].sort((a, b) => b.share - a.share)[0];
  if (!most) return [];
  const alerts = json.filter(({ level }) => level === 'alert').length;
  return [
    `${most.bothSides ? 'Serialization' : 'The client’s part of serialization'} takes up to ${percent(most.share)} of REST JSON’s latency (${plainName(most.model)}, ${most.payload.label}, ${loadLabel(most.load)}), and 30 % or more in ${alerts} of ${json.length} cells of that load.`,
  ];
}

function matrix({ matrix: rows }: Verdict): string[] {
  const decided = rows.filter(({ agrees }) => agrees !== undefined);
  if (decided.length === 0) return [];
  const same = decided.filter(({ agrees }) => agrees).length;
  return [`Of the article’s decision matrix, ${same} of the ${decided.length} rows measured come out the same here.`];
}

export interface TakenTable {
  readonly loads: readonly LoadName[];
  readonly rows: readonly { readonly model: string; readonly payload: string; readonly taken: readonly string[] }[];
}

export const TIE_LEGEND = '= noise can’t tell it from others: the simplest of them, REST before gRPC.';

/** What to take: a row for each model and payload, a column for each load. */
export function takenTable({ recommendations }: Verdict): TakenTable {
  const loads = [...new Map(recommendations.map(({ loadName }) => [loadName.key, loadName])).values()];
  const groups = new Map<string, Recommendation[]>();
  for (const one of recommendations) {
    const key = JSON.stringify([one.model, one.payload.key]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  const text = (own: readonly Recommendation[], load: LoadName) => {
    const found = own.find((one) => one.loadName.key === load.key);
    return found ? `${armName(found.arm)}${found.tiedWith.length > 0 ? ' =' : ''}` : NO_FIGURE;
  };
  return {
    loads,
    rows: [...groups.values()].map((own) => ({
      model: own[0]!.model,
      payload: own[0]!.payload.label,
      taken: loads.map((load) => text(own, load)),
    })),
  };
}
