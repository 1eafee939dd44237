/**
 * The article's decision matrix, each row with what was measured and what follows from it.
 *
 * Called by the verdict. Pure. Owns the rows; a row without figures in a run says so and recommends nothing.
 */
import { armsOf, cellGroups, loadGroups, loadLabel } from './cells.js';
import { byteSize, count, digits, factor, isFigure, milliseconds, percent } from './figures.js';
import { withinNoise } from './noise.js';
import { isGrpc, type Recommendation } from './recommendation.js';
import { type ArmSpec, armName, type BenchResults, type CellResult, type StreamResult } from './results.js';
import { lightest, serializationShareOf } from './serialization.js';

export interface MatrixRow {
  readonly scenario: string;
  /** The article's. */
  readonly article: 'REST' | 'gRPC' | 'gRPC streaming';
  /** Undefined where this run has no figures for it. */
  readonly measured: string | undefined;
  readonly ours: string | undefined;
  /** Whether ours is the article's; undefined where there is none, or nothing to choose from. */
  readonly agrees: boolean | undefined;
}

interface Finding {
  readonly measured: string;
  readonly ours: string;
  /** Undefined where one protocol alone was measured, so that nothing was chosen. */
  readonly takes: 'REST' | 'gRPC' | undefined;
}

/** What a request may take at 99 % in the article's row for real time, and what a batch may take. */
const REAL_TIME_MS = 100;
const BATCH_MS = 1000;
/** Part of a batch's second up to which the article calls serialization small. */
const SMALL_PART = 0.05;
/** What REST may take of gRPC's latency before its simplicity is no longer free. */
const AFFORDABLE = 1.25;

/** All seven rows, in the article's order; `cells` are those of the results that were answered. */
export function matrixOf(
  { streams, rounds }: BenchResults,
  cells: readonly CellResult[],
  recommendations: readonly Recommendation[],
): MatrixRow[] {
  const row = (scenario: string, article: MatrixRow['article'], finding: Finding | undefined): MatrixRow => ({
    scenario,
    article,
    measured: finding?.measured,
    ours: finding?.ours,
    agrees: finding?.takes && finding.takes === (article === 'REST' ? 'REST' : 'gRPC'),
  });
  return [
    row('Public API, browsers', 'REST', publicApi(cells)),
    row('Internal microservices', 'gRPC', microservices(cells, recommendations)),
    row('Batch inference (> 1 s acceptable)', 'REST', batch(cells)),
    row('Real-time inference (< 100 ms p99)', 'gRPC', realTime(cells)),
    row('LLM token streaming', 'gRPC streaming', streaming(streams, rounds)),
    row('High-volume embeddings', 'gRPC', embeddings(cells, rounds)),
    row('Heterogeneous clients', 'REST', heterogeneous(cells)),
  ];
}

/** A browser can't speak gRPC without a proxy, so what counts is what REST costs it. */
function publicApi(cells: readonly CellResult[]): Finding | undefined {
  const groups = cellGroups(cells).filter((group) => find(group.cells, 'rest_json') && bestOf(group.cells, true));
  const [first, last] = [
    groups.at(0),
    groups.reduce<(typeof groups)[number] | undefined>(
      (largest, group) => (largest && largest.payload.bytes >= group.payload.bytes ? largest : group),
      undefined,
    ),
  ];
  if (!first || !last) return undefined;
  const text = (group: typeof first) => {
    const [json, grpc] = [find(group.cells, 'rest_json')!, bestOf(group.cells, true)!];
    return `${group.payload.label}: REST JSON ${milliseconds(json.p50Ms.value)} to gRPC ${milliseconds(grpc.p50Ms.value)}`;
  };
  const binary = find(last.cells, 'rest_binary');
  return {
    measured: first === last ? text(first) : `${text(first)}; ${text(last)}`,
    ours: binary
      ? `REST; binary tensors for large payloads (${last.payload.label}: ${milliseconds(binary.p50Ms.value)})`
      : 'REST',
    takes: 'REST',
  };
}

function microservices(cells: readonly CellResult[], recommendations: readonly Recommendation[]): Finding | undefined {
  if (recommendations.length === 0) return undefined;
  const grpc = recommendations.filter(({ arm }) => isGrpc(arm));
  const takes = grpc.length * 2 > recommendations.length ? 'gRPC' : 'REST';
  const usual = mostFrequent(
    recommendations.filter(({ arm }) => isGrpc(arm) === (takes === 'gRPC')).map(({ arm }) => armName(arm)),
  );
  return {
    measured: `gRPC recommended in ${grpc.length} of ${recommendations.length} combinations of model, load and payload`,
    ours: `${takes}, mostly ${usual}`,
    takes: hasBoth(cells) ? takes : undefined,
  };
}

function batch(cells: readonly CellResult[]): Finding | undefined {
  const json = lightest(cells.filter(({ arm }) => armName(arm) === 'rest_json')).map(serializationShareOf);
  const worst = json.sort((a, b) => b.ms - a.ms)[0];
  if (!worst) return undefined;
  const part = worst.ms / BATCH_MS;
  return {
    measured: `REST JSON spends at most ${milliseconds(worst.ms)} on serialization (${worst.payload.label}, ${loadLabel(worst.load)}): ${percent(part)} of a second`,
    ours: part < SMALL_PART ? 'REST JSON' : 'REST with binary tensors',
    takes: 'REST',
  };
}

function realTime(cells: readonly CellResult[]): Finding | undefined {
  const arms = armsOf(cells);
  const groups = cellGroups(cells);
  if (groups.length === 0) return undefined;
  const holds = (cell: CellResult | undefined) =>
    cell !== undefined && isFigure(cell.p99Ms.value) && cell.p99Ms.value < REAL_TIME_MS;
  const held = arms.map((arm) => {
    const of = groups.filter(({ cells: own }) => find(own, armName(arm)));
    return { arm, all: of.length, held: of.filter(({ cells: own }) => holds(find(own, armName(arm)))).length };
  });
  // An arm that was asked the easy ones alone is not to be compared. Of the others the simplest that holds most: they come in that order.
  const most = Math.max(...held.map(({ all }) => all));
  const chosen = held.filter(({ all }) => all === most).reduce((a, b) => (b.held > a.held ? b : a));
  const fewer = held.filter(({ all, held: some }) => some < all);
  const always = held.filter((one) => !fewer.includes(one)).map(({ arm }) => armName(arm));
  const parts = [
    ...(always.length > 0 ? [`everywhere with ${always.join(', ')}`] : []),
    ...fewer.map(({ arm, all, held: some }) => `in ${some} of ${all} with ${armName(arm)}`),
  ];
  return {
    measured: `p99 below 100 ms ${parts.join(', ')}`,
    ours: armName(chosen.arm),
    takes: choice(cells, chosen.arm),
  };
}

function streaming(streams: readonly StreamResult[], rounds: number): Finding | undefined {
  const sound = streams.filter(({ totalMs }) => isFigure(totalMs.value));
  const fastest = [...sound].sort((a, b) => a.totalMs.value - b.totalMs.value)[0];
  if (!fastest) return undefined;
  const same = sound.filter(({ totalMs }) => withinNoise(totalMs, fastest.totalMs, rounds));
  const chosen = same.find(({ way }) => way === 'sse' || way === 'sse_openai') ?? fastest;
  return {
    measured: `${count(fastest.tokens)} tokens: ${sound.map(({ way, totalMs }) => `${way} ${milliseconds(totalMs.value)}`).join(', ')}`,
    ours:
      same.length > 1
        ? `${chosen.way}: within noise of ${same
            .filter((other) => other !== chosen)
            .map(({ way }) => way)
            .join(', ')}`
        : chosen.way,
    takes: hasBothWays(sound) ? (isGrpcWay(chosen) ? 'gRPC' : 'REST') : undefined,
  };
}

function embeddings(cells: readonly CellResult[], rounds: number): Finding | undefined {
  const own = cells.filter(({ model, load }) => /embed/i.test(model) && load.kind === 'closed');
  const group = cellGroups(loadGroups(own).at(-1)?.cells ?? [])[0];
  if (!group) return undefined;
  const json = find(group.cells, 'rest_json');
  const fastest = [...group.cells].sort((a, b) => b.perSecond.value - a.perSecond.value)[0]!;
  // Cells come from the simplest arm on.
  const tied = group.cells.filter((cell) => withinNoise(cell.perSecond, fastest.perSecond, rounds));
  const chosen = tied[0]!;
  return {
    measured:
      `${group.payload.label}, ${loadLabel(group.load)}: ` +
      group.cells.map(({ arm, perSecond }) => `${armName(arm)} ${digits(perSecond.value)}/s`).join(', ') +
      (json && json !== fastest ? ` (${factor(fastest.perSecond.value, json.perSecond.value)} of REST JSON)` : ''),
    ours: tied.length > 1 ? `${armName(chosen.arm)}: the simplest within noise of the fastest` : armName(chosen.arm),
    takes: choice(own, chosen.arm),
  };
}

function heterogeneous(cells: readonly CellResult[]): Finding | undefined {
  const costs = cellGroups(cells).flatMap(({ payload, cells: own }) => {
    const [rest, grpc] = [bestOf(own, false), bestOf(own, true)];
    return rest && grpc
      ? [{ payload, part: rest.p50Ms.value / grpc.p50Ms.value, bytes: rest.sentBytes + rest.receivedBytes }]
      : [];
  });
  const sorted = costs.sort((a, b) => a.part - b.part);
  const [least, most] = [sorted[0], sorted.at(-1)];
  const middle = sorted[sorted.length >> 1];
  if (!least || !most || !middle) return undefined;
  return {
    measured: `the best REST arm takes ${digits(least.part)} to ${digits(most.part)} times the best gRPC arm's p50 (most at ${most.payload.label}, ${byteSize(most.bytes)} on the wire)`,
    ours: middle.part <= AFFORDABLE ? 'REST' : `REST where ${digits(middle.part)} times the latency is affordable`,
    takes: 'REST',
  };
}

function hasBoth(cells: readonly CellResult[]): boolean {
  return new Set(cells.map(({ arm }) => isGrpc(arm))).size === 2;
}

function choice(cells: readonly CellResult[], arm: ArmSpec): Finding['takes'] {
  if (!hasBoth(cells)) return undefined;
  return isGrpc(arm) ? 'gRPC' : 'REST';
}

function isGrpcWay({ way }: StreamResult): boolean {
  return way === 'grpc_stream' || way === 'request_per_token_grpc';
}

function hasBothWays(streams: readonly StreamResult[]): boolean {
  return new Set(streams.map(isGrpcWay)).size === 2;
}

function find(cells: readonly CellResult[], name: string): CellResult | undefined {
  return cells.find(({ arm }) => armName(arm) === name);
}

function bestOf(cells: readonly CellResult[], grpc: boolean): CellResult | undefined {
  return cells.filter(({ arm }) => isGrpc(arm) === grpc).sort((a, b) => a.p50Ms.value - b.p50Ms.value)[0];
}

function mostFrequent(names: readonly string[]): string {
  const times = new Map<string, number>();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return [...times].sort((a, b) => b[1] - a[1])[0]?.[0] ?? '';
}
