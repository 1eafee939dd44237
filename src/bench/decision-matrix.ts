/**
 * The article's decision matrix, each row with what was measured and what follows from it.
 *
 * Called by the verdict. Pure. Owns the rows; a row without figures in a run says so and recommends nothing.
 */
import { armsOf, cellGroups, loadLabel, loadsOf } from './cells.js';
import { byteSize, digits, factor, isFigure, milliseconds, percent } from './figures.js';
import { isGrpc, type Recommendation } from './recommendation.js';
import { armName, type CellResult, type StreamResult } from './results.js';
import { serializationShareOf } from './serialization.js';

export interface MatrixRow {
  readonly scenario: string;
  /** The article's. */
  readonly article: 'REST' | 'gRPC' | 'gRPC streaming';
  /** Undefined where this run has no figures for it. */
  readonly measured: string | undefined;
  readonly ours: string | undefined;
  /** Whether ours is the article's; undefined where there is none. */
  readonly agrees: boolean | undefined;
}

type Finding = Pick<MatrixRow, 'measured' | 'ours'> & { readonly takes: 'REST' | 'gRPC' };

/** What a request may take at 99 % in the article's row for real time, and what a batch may take. */
const REAL_TIME_MS = 100;
const BATCH_MS = 1000;
/** Part of a batch's second up to which the article calls serialization small. */
const SMALL_PART = 0.05;

/** All seven rows, in the article's order. */
export function matrixOf(
  cells: readonly CellResult[],
  streams: readonly StreamResult[],
  recommendations: readonly Recommendation[],
): MatrixRow[] {
  const row = (scenario: string, article: MatrixRow['article'], finding: Finding | undefined): MatrixRow => ({
    scenario,
    article,
    measured: finding?.measured,
    ours: finding?.ours,
    agrees: finding && finding.takes === (article === 'REST' ? 'REST' : 'gRPC'),
  });
  return [
    row('Public API, browsers', 'REST', publicApi(cells)),
    row('Internal microservices', 'gRPC', microservices(recommendations)),
    row('Batch inference (> 1 s acceptable)', 'REST', batch(cells)),
    row('Real-time inference (< 100 ms p99)', 'gRPC', realTime(cells)),
    row('LLM token streaming', 'gRPC streaming', streaming(streams)),
    row('High-volume embeddings', 'gRPC', embeddings(cells)),
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

function microservices(recommendations: readonly Recommendation[]): Finding | undefined {
  if (recommendations.length === 0) return undefined;
  const grpc = recommendations.filter(({ arm }) => isGrpc(arm));
  const takes = grpc.length * 2 > recommendations.length ? 'gRPC' : 'REST';
  const usual = mostFrequent(
    recommendations.filter(({ arm }) => isGrpc(arm) === (takes === 'gRPC')).map(({ arm }) => armName(arm)),
  );
  return {
    measured: `gRPC recommended in ${grpc.length} of ${recommendations.length} combinations of model, load and payload`,
    ours: `${takes}, mostly ${usual}`,
    takes,
  };
}

function batch(cells: readonly CellResult[]): Finding | undefined {
  const json = cells.filter(({ arm }) => armName(arm) === 'rest_json').map(serializationShareOf);
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
  // The simplest one of those that hold most: arms come from the simplest on.
  const chosen = held.reduce((a, b) => (b.held / b.all > a.held / a.all ? b : a));
  return {
    measured:
      held.map(({ arm, all, held: some }) => `${armName(arm)} ${some}/${all}`).join(', ') +
      ' combinations below 100 ms',
    ours: armName(chosen.arm),
    takes: isGrpc(chosen.arm) ? 'gRPC' : 'REST',
  };
}

function streaming(streams: readonly StreamResult[]): Finding | undefined {
  const sound = streams.filter(({ totalMs }) => isFigure(totalMs.value));
  const fastest = [...sound].sort((a, b) => a.totalMs.value - b.totalMs.value)[0];
  if (!fastest) return undefined;
  const same = sound.filter(({ totalMs }) => totalMs.low <= fastest.totalMs.high);
  const chosen = same.find(({ way }) => way === 'sse' || way === 'sse_openai') ?? fastest;
  return {
    measured: sound
      .map(({ way, tokens, totalMs }) => `${way} ${milliseconds(totalMs.value)} for ${tokens} tokens`)
      .join(', '),
    ours:
      same.length > 1
        ? `${chosen.way}: within noise of ${same
            .filter((other) => other !== chosen)
            .map(({ way }) => way)
            .join(', ')}`
        : chosen.way,
    takes: /grpc/.test(chosen.way) ? 'gRPC' : 'REST',
  };
}

function embeddings(cells: readonly CellResult[]): Finding | undefined {
  const own = cells.filter(({ model, load }) => /embed/i.test(model) && load.kind === 'closed');
  const most = loadsOf(own).at(-1);
  const group = cellGroups(own).find(({ load }) => most && loadLabel(load) === loadLabel(most));
  if (!group) return undefined;
  const json = find(group.cells, 'rest_json');
  const fastest = [...group.cells].sort((a, b) => b.perSecond.value - a.perSecond.value)[0]!;
  return {
    measured:
      `${group.payload.label}, ${loadLabel(group.load)}: ` +
      group.cells.map(({ arm, perSecond }) => `${armName(arm)} ${digits(perSecond.value)}/s`).join(', ') +
      (json && json !== fastest ? ` (${factor(fastest.perSecond.value, json.perSecond.value)} of REST JSON)` : ''),
    ours: armName(fastest.arm),
    takes: isGrpc(fastest.arm) ? 'gRPC' : 'REST',
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
  if (!least || !most) return undefined;
  return {
    measured: `the best REST arm takes ${digits(least.part)} to ${digits(most.part)} times the best gRPC arm's p50 (most at ${most.payload.label}, ${byteSize(most.bytes)} on the wire)`,
    ours: 'REST',
    takes: 'REST',
  };
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
