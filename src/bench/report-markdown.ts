/**
 * A run of the benchmark as one Markdown document that explains itself: verdict first, then what it was made from.
 *
 * Called by `report-files.ts`. Pure. Owns the order of the sections; it must not leave out a figure that is in the results.
 */
import { answeredCells, type CellGroup, cellGroups, loadGroups, loadTitle, modelsOf } from './cells.js';
import { byteSize, count, digits, interval, milliseconds, percent, plainName } from './figures.js';
import { markdownCode, markdownDetails, markdownImage, markdownList, markdownTable, markdownText } from './markdown.js';
import { plotName } from './plot-name.js';
import { budgetTable, cellsTable } from './report-cells.js';
import { BUSY_CLIENT, notesOf, UNEXPLAINED } from './report-notes.js';
import { verdictSection } from './report-verdict.js';
import type { BenchResults, StreamResult } from './results.js';
import { verdict } from './verdict.js';

/** `plotFiles`: paths of the plots relative to the report, as {@link import('./plots.js').plots} names them, with their folder before. */
export function markdownReport(results: BenchResults, plotFiles: readonly string[]): string {
  const images = new Images(plotFiles);
  const { server } = results.environment;
  const parts = [
    `# REST against gRPC on ${markdownText(`${plainName(server.name)} ${plainName(server.version)}`.trim())}`,
    summary(results),
    '## Verdict',
    verdictSection(verdict(results), answeredCells(results)),
    '## How to read this',
    howToRead(results),
    '## Environment',
    environment(results),
    ...(results.cells.length > 0 ? ['## Results', ...modelSections(results, images)] : []),
    ...streamSection(results.streams, images),
    ...experimentSection(results),
    ...noteSection(results),
    ...(images.rest().length > 0
      ? ['## Further plots', ...images.rest().map((file) => markdownImage(file, file))]
      : []),
    '## Reproduce',
    reproduce(results),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Plots by name, each shown once. */
class Images {
  private readonly left = new Map<string, string>();

  constructor(files: readonly string[]) {
    for (const file of files) this.left.set(file.slice(file.lastIndexOf('/') + 1), file);
  }

  /** Empty where there is no such plot. */
  take(title: string, ...name: Parameters<typeof plotName>): string[] {
    const key = `${plotName(...name)}.svg`;
    const file = this.left.get(key);
    this.left.delete(key);
    return file === undefined ? [] : [markdownImage(title, file)];
  }

  rest(): string[] {
    return [...this.left.values()];
  }
}

function summary({ cells, streams, rounds, seconds, startedAt, quick, cutShort }: BenchResults): string {
  const requests = cells.reduce((sum, cell) => sum + cell.requests, 0);
  const rough = quick ? ' It was a quick run: its figures are rough, its intervals wide.' : '';
  const cut = cutShort === undefined ? '' : `**The run ended early: ${markdownText(plainName(cutShort))}.** `;
  const streamed = streams.length > 0 ? ` and ${count(streams.length)} ways of streaming tokens` : '';
  return `${cut}${count(cells.length)} cells${streamed}, ${count(requests)} requests in ${count(rounds)} ${rounds === 1 ? 'round' : 'rounds'}, ${count(seconds)} seconds from ${plainName(startedAt)} on.${rough}`;
}

function howToRead({ rounds }: BenchResults): string {
  return markdownList([
    'An **arm** is a protocol with an encoding: `rest_json` sends tensors as JSON numbers, `rest_binary` as bytes behind a JSON header, `grpc_raw` as bytes in `raw_input_contents`, `grpc_typed` as repeated fields; `+gzip` compresses requests, and answers where the server can.',
    'A **closed loop** of n has n callers that ask again when answered. An **open loop** asks at fixed times whatever the answers do, and counts from when a request was due, so a slow answer is not hidden by a late question.',
    `Latency goes from asking to decoded tensors. Figures in brackets are ${rounds === 1 ? 'missing, as one round has no confidence interval: differences below 10 % count as noise' : '95 % confidence intervals over the rounds; where those of two arms overlap, or they differ by less than 3 %, the difference counts as noise'}.`,
    'The **budget** has the client’s phases and those that the server tells in `server-timing`. *Transit* is the wait for the first byte less the server’s phases: wire, kernels and queues of event loops, seen by neither side. *Not in any phase* is what is missing between the sum of all phases and the time measured around the call.',
    `Rows are marked: ! a client process used more than ${percent(BUSY_CLIENT)} of a core; ≠ another answer than the first arm’s; ~ phases and measured time differ by more than ${percent(UNEXPLAINED)}; × requests failed; < an open loop did not keep up; ? fewer than 100 requests, so that p95 and p99 are those of a few.`,
    'KB are 1024 bytes; a payload’s size is that of its tensors, not of its JSON. Bytes are those on the sockets of connections that stand already. CPU is per request; that of the server counts all its threads.',
    'Callers begin all at once, so the first answer of each, which waited for fewer others than later ones, counts for throughput alone. Connections are opened and used before the clock starts.',
    'All arms use the codecs of `tensorwire/client`, which print and read tensors faster than `JSON.stringify`, `JSON.parse` and protobufjs do: each arm at its best, JSON most of all.',
  ]);
}

function environment({ environment: machine }: BenchResults): string {
  const { node, cpu, cores, os, server, pinned, clientProcesses } = machine;
  return markdownTable(
    [
      { head: 'What', left: true },
      { head: 'Which', left: true },
    ],
    [
      ['Server', `${plainName(server.name)} ${plainName(server.version)}`],
      [
        'Client',
        `Node ${plainName(node)}, ${count(clientProcesses)} ${clientProcesses === 1 ? 'process' : 'processes'}`,
      ],
      ['CPU', `${plainName(cpu)}, ${count(cores)} cores`],
      ['System', plainName(os)],
      ['Cores', pinned ? 'server and clients had cores of their own' : 'server and clients shared all cores'],
    ].map(([what, which]) => [what!, markdownText(which!)]),
  );
}

function modelSections({ cells }: BenchResults, images: Images): string[] {
  return modelsOf(cells).flatMap((model) => {
    const own = cells.filter((cell) => cell.model === model);
    const groups = cellGroups(own);
    const name = plainName(model);
    return [
      `### ${markdownText(name)}`,
      ...images.take(`${name}: latency over payload`, 'latency', model),
      ...images.take(`${name}: throughput over payload`, 'throughput', model),
      ...images.take(`${name}: bytes on the wire`, 'bytes', model),
      ...loadGroups(own).flatMap((load) => {
        const ofLoad = groups.filter((group) => group.loadName.key === load.key);
        const { key, label } = load;
        return [
          `#### ${markdownText(name)}, ${loadTitle(load).toLowerCase()}`,
          cellsTable(ofLoad),
          ...images.take(`${name}: latency percentiles, ${label}`, 'percentiles', model, key),
          ...images.take(`${name}: latency budget, ${label}`, 'budget', model, key),
          markdownDetails(`The budget in figures: ${name}, ${label}`, budgetTables(ofLoad)),
        ];
      }),
    ];
  });
}

function budgetTables(groups: readonly CellGroup[]): string {
  return groups.map((group) => `**${group.payload.label}**\n\n${budgetTable(group)}`).join('\n\n');
}

function streamSection(streams: readonly StreamResult[], images: Images): string[] {
  if (streams.length === 0) return [];
  const columns = [
    'Tokens',
    'Total (ms)',
    'First token (ms)',
    'Gap p50 (ms)',
    'Gap p99 (ms)',
    'Sent',
    'Received',
    'Client CPU (us)',
    'Server CPU (us)',
    'Client decode (ms)',
  ];
  return [
    '## Token streams',
    ...images.take('Token streams', 'streams'),
    markdownTable(
      [{ head: 'Way', left: true }, ...columns.map((head) => ({ head })), { head: 'Same text', left: true }],
      streams.map((stream) => [
        stream.way,
        count(stream.tokens),
        interval(stream.totalMs),
        interval(stream.firstTokenMs),
        digits(stream.gapP50Ms),
        digits(stream.gapP99Ms),
        byteSize(stream.sentBytes),
        byteSize(stream.receivedBytes),
        count(stream.clientCpuUs),
        count(stream.serverCpuUs),
        milliseconds(stream.clientDecodeMs).replace(' ms', ''),
        stream.textEqual ? 'yes' : 'no ≠',
      ]),
    ),
  ];
}

function experimentSection({ experiments }: BenchResults): string[] {
  if (experiments.length === 0) return [];
  return [
    '## Experiments',
    ...experiments.flatMap(({ name, method, figures }) => [
      `### ${markdownText(plainName(name))}`,
      markdownText(method),
      markdownTable(
        [{ head: 'Figure', left: true }, { head: 'Value' }],
        Object.entries(figures).map(([key, value]) => [markdownCode(plainName(key)), digits(value)]),
      ),
    ]),
  ];
}

function noteSection(results: BenchResults): string[] {
  const notes = notesOf(results);
  return notes.length > 0 ? ['## Notes', markdownList(notes.map(markdownText))] : [];
}

function reproduce({ command }: BenchResults): string {
  const how = command ?? 'npm run bench';
  return `\`\`\`sh\n${how.replaceAll(/[\r\n]+/g, ' ')}\n\`\`\`\n\nAll figures here are in \`results.json\` beside this report.`;
}
