/**
 * `npm run docs`: rewrites the tables of README.md that the code decides, each between its two markers.
 *
 * Run by people and by test/readme.test.ts, which fails while a table is out of date. Owns the words beside what the code says
 * (causes of errors, meanings of phases); an error code or phase without words does not compile.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ErrorCode } from '../src/base/errors.js';
import { OPTIONS, type Row } from '../src/base/options.js';
import { PHASES, type Phase } from '../src/base/timeline.js';
import { grpcStatus } from '../src/grpc/status.js';
import { HTTP_STATUS } from '../src/rest/status.js';

const README = fileURLToPath(new URL('../README.md', import.meta.url));

const CAUSES: Readonly<Record<ErrorCode, string>> = {
  INVALID_ARGUMENT:
    'Input missing, unknown or given twice; wrong datatype, shape or byte size; more rows than `max_batch_size`; malformed JSON; values that a kernel refuses, such as an index out of bounds',
  FAILED_PRECONDITION:
    'Not an answer to a request, but a reason in the repository index: the execution provider is not on this machine',
  ALREADY_EXISTS: 'Nothing here uses it yet',
  NOT_FOUND: 'No model, version or health service of that name',
  RESOURCE_EXHAUSTED:
    'Message, reply or metadata over its limit; `--max-inflight-byte-size` reached; tensors that do not fit the shared memory pool; ONNX Runtime out of memory',
  CANCELLED: 'The caller has gone; only metrics see it',
  INTERNAL:
    'A message that is no such message (gRPC), a kernel that failed, or a fault of the server, which is in the log',
  UNIMPLEMENTED: 'What is [not there yet](#what-is-not-there-yet), an unknown RPC, an unknown compression',
  UNAVAILABLE:
    'Model loading or failed to load; queue full; queue timeout over (`Request timeout expired`); server stopping; worker thread lost while it ran the request',
  DEADLINE_EXCEEDED:
    "The caller's deadline has passed, or leaves less time than the model has ever taken; a request that arrives too slowly",
};

const MEANINGS: Readonly<Record<Phase, string>> = {
  receive: 'from the first byte that the server sees to the last of the request',
  decode: 'decompressing and reading the message, up to tensors as views on it',
  admit:
    'finding the model (and loading it, where that is done on first use), checking names, datatypes, shapes and sizes',
  preprocess: 'tokenizing texts and decoding pictures in a preprocess worker, with the wait for it; 0 for tensors',
  queue: 'waiting for a worker, or for company in a batch',
  dispatch:
    'copying the rows of the batch into shared memory, the way to the worker, and a batch that runs there before',
  prefill: 'the prompt of a generated text, up to its first token; only replies with generated text name it',
  compute: '`session.run` of ONNX Runtime, for the whole batch; of a generated text all tokens after the first',
  collect: 'the way back to the main thread, and the replies of the batch that are made before this one',
  encode: 'making the reply out of shared memory, up to handing it to the socket',
};

/** The tables by marker. */
export function tables(): Readonly<Record<string, string>> {
  return { options: optionTables(), errors: errorTable(), phases: phaseTable() };
}

/** `readme` with every table as the code has it now. Throws when a marker is missing. */
export function withTables(readme: string): string {
  let text = readme;
  for (const [name, table] of Object.entries(tables())) {
    const [begin, end] = [`<!-- ${name}: begin (npm run docs) -->`, `<!-- ${name}: end -->`];
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`README.md lacks the markers ${begin} and ${end}`);
    text = `${text.slice(0, from + begin.length)}\n\n${table}\n\n${text.slice(to)}`;
  }
  return text;
}

function optionTables(): string {
  const groups = Map.groupBy(Object.entries(OPTIONS) as [string, Row<unknown>][], ([, row]) => row.group);
  return [...groups]
    .map(
      ([group, rows]) =>
        `**${group.replace(':', '')}**\n\n${table(['Option', 'Default', 'Choose'], rows.map(optionRow))}`,
    )
    .join('\n\n');
}

function optionRow([field, { kind, fallback, fallbackText, sentence, aliases = [] }]: [
  string,
  Row<unknown>,
]): string[] {
  const flag = `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const also = aliases.map((alias) => ` Also \`--${alias}\`.`).join('');
  return [`\`${flag} ${kind.placeholder}\``, fallbackText ?? defaultText(flag, fallback), sentence + also];
}

function defaultText(flag: string, fallback: unknown): string {
  if (fallback === undefined) return 'none';
  const mib = /byte-size$|input-size$/.test(flag) ? ` (${Number(fallback) / 2 ** 20} MiB)` : '';
  return `\`${fallback}\`${mib}`;
}

function errorTable(): string {
  const rows = (Object.keys(CAUSES) as ErrorCode[]).map((code) => [
    `\`${code}\``,
    String(grpcStatus(code)),
    String(HTTP_STATUS[code]),
    CAUSES[code],
  ]);
  return table(['Code', 'gRPC', 'HTTP', 'Typical causes'], rows);
}

function phaseTable(): string {
  return table(
    ['Phase', 'The time of'],
    PHASES.map((phase) => [`\`${phase}\``, MEANINGS[phase]]),
  );
}

/** Columns are lined up, as people would keep them. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  const rule = line(widths.map((width) => '-'.repeat(width)));
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(README, withTables(readFileSync(README, 'utf8')));
