/**
 * The verdict for a terminal: what to take where and why, where arms cross, what the encoding brings and what the protocol, and the
 * article's matrix.
 *
 * Called by the command and the harness at the end of a run. Pure; Markdown has its own in `report-verdict.ts`.
 */
import { ARM_ORDER, loadLabel } from './cells.js';
import { NO_FIGURE, percent, plainName, shortName } from './figures.js';
import { plainHeading, plainTable, wrapText } from './plain-table.js';
import { armName } from './results.js';
import { lightest, type SerializationShare } from './serialization.js';
import type { Verdict } from './verdict.js';
import { summarySentences, TIE_LEGEND, takenTable } from './verdict-summary.js';
import { agreement, crossoverWords, NO_DATA, partWords, stepWords } from './verdict-words.js';

/** Of the pairs those that most people choose between; the report has all. */
const PAIRS = ['rest_json / rest_binary', 'rest_json / grpc_raw', 'rest_binary / grpc_raw'];

/** Lines of plain text, without an end of line at the end. */
export function verdictText(verdict: Verdict, { width = 120 }: { readonly width?: number } = {}): string {
  if (verdict.recommendations.length === 0 && verdict.matrix.every(({ measured }) => measured === undefined)) {
    return `${plainHeading('Verdict')}\nNothing was answered, so there is nothing to say.`;
  }
  return [
    [plainHeading('Verdict'), ...summarySentences(verdict).map((text) => wrapText(text, width, '  '))].join('\n'),
    recommended(verdict, width),
    crossed(verdict, width),
    changed(verdict),
    serialized(verdict, width),
    matrix(verdict, width),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

/** More than this, and the reasons stand in the report alone. */
const REASONS = 12;

function recommended(verdict: Verdict, width: number): string {
  if (verdict.recommendations.length === 0) return '';
  const { loads, rows } = takenTable(verdict);
  const columns = [
    { head: 'Model Type', left: true },
    { head: 'Payload' },
    ...loads.map(({ label }) => ({ head: label, left: true })),
  ];
  const reasons = verdict.recommendations.map(({ model, payload, load, arm, reason }) =>
    wrapText(`${plainName(model)}, ${payload.label}, ${loadLabel(load)}: ${armName(arm)}: ${reason}.`, width, '    '),
  );
  return [
    plainHeading('What to take'),
    plainTable(columns, [rows.map(({ model, payload, taken }) => [shortName(model), payload, ...taken])]),
    TIE_LEGEND,
    ...(reasons.length <= REASONS ? ['', ...reasons] : []),
  ].join('\n');
}

function crossed({ crossovers }: Verdict, width: number): string {
  const plain = crossovers.filter(({ arms }) => PAIRS.includes(arms.join(' / ')));
  if (plain.length === 0) return '';
  const rows = plain.map((crossover) => [
    shortName(crossover.model),
    crossover.loadName.label,
    crossover.arms.join(' / '),
    crossoverWords(crossover),
  ]);
  const before = [0, 1, 2].reduce((sum, index) => sum + 2 + Math.max(...rows.map((row) => row[index]!.length), 10), 0);
  const columns = [
    { head: 'Model Type', left: true },
    { head: 'Load', left: true },
    { head: 'Arms', left: true },
    { head: 'Faster (p50)', left: true, width: Math.max(30, width - before) },
  ];
  return `${plainHeading('From which payload on')}\n${plainTable(columns, [rows])}`;
}

function changed({ changes }: Verdict): string {
  if (changes.length === 0) return '';
  // Where nothing has binary tensors over REST, both changes at once are all there is.
  const apart = changes.some(({ encoding, protocol }) => encoding || protocol);
  const rows = changes.map(({ model, load, payload, encoding, protocol, both, encodingPart }) => [
    shortName(model),
    loadLabel(load),
    payload.label,
    ...(apart ? [stepWords(encoding), stepWords(protocol), partWords(encodingPart)] : [stepWords(both)]),
  ]);
  const heads = ['JSON to binary,\nstill REST', 'REST to gRPC,\nstill binary', 'Encoding’s part\nof both'];
  const columns = [
    { head: 'Model Type', left: true },
    { head: 'Load', left: true },
    { head: 'Payload' },
    ...(apart ? heads : ['REST JSON\nto gRPC raw']).map((head) => ({ head })),
  ];
  return `${plainHeading('Another encoding against another protocol (p50)')}\n${plainTable(columns, [rows])}`;
}

function serialized({ serialization }: Verdict, width: number): string {
  const levels = [
    ['alert', 'is 30 % of the latency and more'],
    ['warn', 'is 20 to 30 % of the latency'],
  ] as const;
  const judged = lightest(serialization);
  const lines = levels.flatMap(([level, words]) => {
    const reached = judged.filter((share) => share.level === level);
    if (reached.length === 0) return [];
    const arms = ARM_ORDER.filter((name) => reached.some(({ arm }) => armName(arm) === name));
    const named = arms.map((arm) => {
      const own = reached.filter((share) => armName(share.arm) === arm);
      return `${arm} in ${own.length} of ${countOf(judged, arm)} (up to ${percent(Math.max(...own.map(({ share }) => share)))})`;
    });
    return [wrapText(`Serialization ${words}: ${named.join(', ')}.`, width, '  ')];
  });
  if (judged.length === 0) return '';
  const none = 'Serialization is below 20 % of the latency in all cells.';
  const [{ load }] = judged as [SerializationShare];
  return [plainHeading(`Share of serialization, ${loadLabel(load)}`), ...(lines.length > 0 ? lines : [none])].join(
    '\n',
  );
}

function countOf(shares: readonly SerializationShare[], arm: string): number {
  return shares.filter((share) => armName(share.arm) === arm).length;
}

function matrix({ matrix: rows }: Verdict, width: number): string {
  // What is left of the width after the other columns and the space between them.
  const free = Math.max(40, width - 26 - 10 - 4 - 8);
  const columns = [
    { head: 'Scenario', left: true, width: 26 },
    { head: 'Article', left: true, width: 10 },
    { head: 'Measured here', left: true, width: Math.floor(free * 0.62) },
    { head: 'Ours', left: true, width: Math.floor(free * 0.38) },
    { head: 'Same', left: true, width: 4 },
  ];
  const groups = rows.map(({ scenario, article, measured, ours, agrees }) => [
    [scenario, article, measured ?? NO_DATA, ours ?? NO_FIGURE, agreement(agrees)],
  ]);
  return `${plainHeading('The article’s decision matrix, with figures')}\n${plainTable(columns, groups)}`;
}
