/**
 * The verdict as the first section of the Markdown report.
 *
 * Called by `report-markdown.ts`. Pure.
 */
import { type CellGroup, cellGroups, loadLabel } from './cells.js';
import { NO_FIGURE, plainName } from './figures.js';
import { type MarkdownColumn, markdownDetails, markdownList, markdownTable, markdownText } from './markdown.js';
import { armName, type CellResult } from './results.js';
import type { Verdict } from './verdict.js';
import { summarySentences, TIE_LEGEND, takenTable } from './verdict-summary.js';
import { agreement, crossoverWords, NO_DATA, partWords, SHARE_LEGEND, shareWords, stepWords } from './verdict-words.js';

/** Everything below the heading; `cells` are those that the verdict was made from. */
export function verdictSection(verdict: Verdict, cells: readonly CellResult[]): string {
  return [
    ...recommended(verdict),
    ...matrix(verdict),
    ...crossed(verdict),
    ...changed(verdict),
    ...serialized(verdict, cells),
  ].join('\n\n');
}

function recommended(verdict: Verdict): string[] {
  if (verdict.recommendations.length === 0) return ['Nothing was answered, so there is nothing to recommend.'];
  const { loads, rows } = takenTable(verdict);
  const reasons = verdict.recommendations.map(({ model, payload, load, arm, tiedWith, reason }) => [
    named(model),
    payload.label,
    loadLabel(load),
    `**${armName(arm)}**${tiedWith.length > 0 ? ' =' : ''}`,
    markdownText(reason),
  ]);
  const columns = [{ head: 'Model', left: true }, { head: 'Payload' }];
  return [
    markdownList(summarySentences(verdict).map(markdownText)),
    '### What to take',
    'The lowest median latency, beyond noise; where noise can’t tell arms apart, p99 decides, then throughput, then simplicity.',
    markdownTable(
      [...columns, ...loads.map(({ label }) => ({ head: label, left: true }))],
      rows.map(({ model, payload, taken }) => [named(model), payload, ...taken]),
    ),
    TIE_LEGEND,
    markdownDetails(
      'The reasons in figures',
      markdownTable([...columns, ...['Load', 'Take', 'Because'].map((head) => ({ head, left: true }))], reasons),
    ),
  ];
}

function crossed({ crossovers }: Verdict): string[] {
  if (crossovers.length === 0) return [];
  return [
    '### From which payload on',
    'Where the median latencies of two arms cross, interpolated on logarithmic axes between the payloads measured.',
    folded(
      'Crossovers of all pairs',
      [
        { head: 'Model', left: true },
        { head: 'Load', left: true },
        { head: 'Arms', left: true },
        { head: 'Faster', left: true },
      ],
      crossovers.map((crossover) => [
        named(crossover.model),
        crossover.loadName.label,
        crossover.arms.join(' / '),
        crossoverWords(crossover),
      ]),
    ),
  ];
}

function changed({ changes }: Verdict): string[] {
  if (changes.length === 0) return [];
  return [
    '### Another encoding against another protocol',
    'What the median latency loses by leaving JSON and staying with REST, what it loses further by leaving REST, and how much of both the encoding alone brings.',
    folded(
      'All changes',
      [
        { head: 'Model', left: true },
        { head: 'Load', left: true },
        { head: 'Payload' },
        { head: 'JSON to binary, still REST' },
        { head: 'REST to gRPC, still binary' },
        { head: 'REST JSON to gRPC raw' },
        { head: 'Encoding’s part' },
      ],
      changes.map(({ model, load, payload, encoding, protocol, both, encodingPart }) => [
        named(model),
        loadLabel(load),
        payload.label,
        stepWords(encoding),
        stepWords(protocol),
        stepWords(both),
        partWords(encodingPart),
      ]),
    ),
  ];
}

/** A row for each model, load and payload, a column for each arm. */
function serialized({ serialization }: Verdict, cells: readonly CellResult[]): string[] {
  if (serialization.length === 0) return [];
  const arms = [...new Set(serialization.map(({ arm }) => armName(arm)))];
  const shareOf = (group: CellGroup, arm: string) => {
    const found = serialization.find(
      (share) =>
        share.model === group.model &&
        share.payload.key === group.payload.key &&
        loadLabel(share.load) === loadLabel(group.load) &&
        armName(share.arm) === arm,
    );
    return found ? shareWords(found) : NO_FIGURE;
  };
  return [
    '### Share of serialization',
    `Encoding and decoding on both sides, of the median latency: ${SHARE_LEGEND}. By the clock: with several callers it holds their waits for the one thread that does it, so judge by the fewest.`,
    folded(
      'The share in all cells',
      [
        { head: 'Model', left: true },
        { head: 'Load', left: true },
        { head: 'Payload' },
        ...arms.map((head) => ({ head })),
      ],
      cellGroups(cells).map((group) => [
        named(group.model),
        loadLabel(group.load),
        group.payload.label,
        ...arms.map((arm) => shareOf(group, arm)),
      ]),
    ),
  ];
}

function matrix({ matrix: rows }: Verdict): string[] {
  return [
    '### The article’s decision matrix, with figures',
    markdownTable(
      ['Scenario', 'The article', 'Measured here', 'Ours', 'Same'].map((head) => ({ head, left: true })),
      rows.map(({ scenario, article, measured, ours, agrees }) => [
        markdownText(scenario),
        article,
        measured === undefined ? NO_DATA : markdownText(measured),
        ours === undefined ? NO_FIGURE : markdownText(ours),
        agreement(agrees),
      ]),
    ),
  ];
}

/** Longer than this, and a table has to be opened. */
const OPEN_ROWS = 20;

function folded(summary: string, columns: readonly MarkdownColumn[], rows: readonly (readonly string[])[]): string {
  const table = markdownTable(columns, rows);
  return rows.length > OPEN_ROWS ? markdownDetails(summary, table) : table;
}

function named(model: string): string {
  return markdownText(plainName(model));
}
