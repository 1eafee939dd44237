/**
 * The command line of `tensorwire bench`: its options with their words, checked and complete.
 *
 * Called by `command.ts`. Reads the files that it names; must not connect to anything.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import type { TlsOptions } from '../client/types.js';
import { UsageError } from './bench-error.js';
import type { LoadTarget } from './load-types.js';
import type { ArmSpec, Encoding, Load } from './results.js';

export interface CommandOptions {
  readonly target: LoadTarget;
  readonly model: string;
  readonly version: string | undefined;
  /** Body of a REST infer request. */
  readonly input: Uint8Array | undefined;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly sizesKb: readonly number[];
  readonly loads: readonly Load[];
  readonly arms: readonly ArmSpec[];
  readonly msPerRound: number;
  readonly rounds: number;
  readonly processes: number;
  /** Of generated text; undefined for tensors. */
  readonly prompt: string | undefined;
  readonly out: string | undefined;
  readonly json: boolean;
  readonly quick: boolean;
  /** The longest silence of a server that owes an answer or a token. */
  readonly timeoutMs: number;
}

/** `--help` was asked for: `text` is the answer for stdout. */
export class HelpAnswer extends Error {
  constructor(readonly text: string) {
    super('an answer, not options');
  }
}

interface Given {
  readonly grpc?: string;
  readonly http?: string;
  readonly model?: string;
  readonly modelVersion?: string;
  readonly input?: string;
  readonly shape?: readonly string[];
  readonly sizes?: string;
  readonly concurrency?: string;
  readonly rate?: string;
  readonly duration?: string;
  readonly rounds?: string;
  readonly arms?: string;
  readonly gzip?: boolean;
  readonly processes?: string;
  readonly prompt?: string;
  readonly timeout?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly out?: string;
  readonly json?: boolean;
  readonly quick?: boolean;
}

/** What client processes can do: 256 MB a request, callers with a connection each, beats of a clock, a day's wait by Node's timers. */
const MOST: Readonly<Record<string, number>> = { sizes: 262_144, concurrency: 10_000, rate: 100_000, timeout: 86_400 };

const ENCODINGS: readonly Encoding[] = ['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed'];

/** Reads `argv` (what stands behind `bench`). Throws HelpAnswer, or UsageError naming option and value. */
export function parseCommandOptions(argv: readonly string[]): CommandOptions {
  const given = readCommandLine(argv);
  if (given.model === undefined) throw new UsageError('option --model is missing: the name of a model of the server');
  if (given.input !== undefined && (given.shape || given.sizes)) {
    throw new UsageError(
      'option --input: a request that is given has its shapes; --shape and --sizes are for made ones',
    );
  }
  const target = targetOf(given);
  if (given.prompt !== undefined && (target.grpc?.tls || target.http?.url.startsWith('https:'))) {
    throw new UsageError('option --prompt: streams are read without TLS');
  }
  const quick = given.quick ?? false;
  const numbers = (name: 'sizes' | 'concurrency' | 'rate', fallback: readonly number[], whole: boolean) =>
    given[name] === undefined ? fallback : numberList(name, given[name], whole);
  return {
    target,
    model: given.model,
    version: given.modelVersion,
    input: given.input === undefined ? undefined : readFile('input', given.input),
    shapes: new Map((given.shape ?? []).map(namedShape)),
    sizesKb: numbers('sizes', quick ? [2, 100, 1000] : [2, 10, 100, 500, 1000], false),
    loads: [
      ...numbers('concurrency', quick ? [1, 8] : [1, 8, 64], true).map(
        (concurrency): Load => ({ kind: 'closed', concurrency }),
      ),
      ...numbers('rate', [], false).map((ratePerSecond): Load => ({ kind: 'open', ratePerSecond })),
    ],
    arms: armsOf(given, target),
    msPerRound: positive('duration', given.duration, quick ? 0.25 : 1) * 1000,
    rounds: whole('rounds', given.rounds, quick ? 3 : 5),
    processes: whole('processes', given.processes, 1),
    prompt: given.prompt,
    out: given.out,
    json: given.json ?? false,
    quick,
    timeoutMs: positive('timeout', given.timeout, 30) * 1000,
  };
}

function readCommandLine(argv: readonly string[]): Given {
  const command = commandLine();
  let printed = '';
  command.configureOutput({ writeOut: (part) => (printed += part), writeErr: () => undefined });
  try {
    command.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new HelpAnswer(printed);
    throw new UsageError(error.message.replaceAll(/\s+/g, ' ').replace(/^error: /, ''));
  }
  return command.opts<Given>();
}

function commandLine(): Command {
  const collect = (text: string, before: readonly string[] = []) => [...before, text];
  const rows: readonly Option[] = [
    new Option('--grpc <host:port>', 'the gRPC server; grpcs://host:port for TLS').helpGroup('Server:'),
    new Option('--http <url>', 'the REST server, http:// or https://; a path is put before /v2').helpGroup('Server:'),
    new Option('--ca <file>', "PEM of the authority that signed the server's certificate").helpGroup('Server:'),
    new Option('--cert <file>', 'PEM of a client certificate, for mTLS').helpGroup('Server:'),
    new Option('--key <file>', 'PEM of its key').helpGroup('Server:'),
    new Option(
      '--timeout <seconds>',
      'longest silence of the server that owes an answer or a token (default: 30)',
    ).helpGroup('Server:'),
    new Option('--model <name>', 'the model to ask').helpGroup('Request:'),
    new Option('--model-version <version>', "its version (default: the server's choice)").helpGroup('Request:'),
    new Option('--sizes <kb,...>', "KB of a request's tensors (default: 2,10,100,500,1000)").helpGroup('Request:'),
    new Option(
      '--shape <input:d,d,...>',
      "shape of an input in place of the metadata's; -1 grows to the size; repeatable",
    )
      .argParser(collect)
      .helpGroup('Request:'),
    new Option('--input <file>', 'send this in place of made inputs: the JSON body of a REST infer request').helpGroup(
      'Request:',
    ),
    new Option(
      '--prompt <text>',
      'of a model that generates text: 100 tokens by every way to stream them, in place of tensors; without TLS',
    ).helpGroup('Request:'),
    new Option('--arms <names>', `of ${ENCODINGS.join(', ')}, each also with +gzip (default: all without)`).helpGroup(
      'Load:',
    ),
    new Option('--gzip', 'each arm with compression, too').helpGroup('Load:'),
    new Option('--concurrency <n,...>', 'callers of closed loops (default: 1,8,64)').helpGroup('Load:'),
    new Option('--rate <n,...>', 'requests a second of open loops, which wait for nobody (default: none)').helpGroup(
      'Load:',
    ),
    new Option('--duration <seconds>', 'of each arm in each round (default: 1)').helpGroup('Load:'),
    new Option('--rounds <n>', 'in which the arms take turns; more make intervals narrower (default: 5)').helpGroup(
      'Load:',
    ),
    new Option('--processes <n>', 'client processes; more where the client is busy (default: 1)').helpGroup('Load:'),
    new Option('--quick', '2,100,1000 KB, 1,8 callers, 3 rounds of 0.25 seconds where they are not given').helpGroup(
      'Load:',
    ),
    new Option('--out <directory>', 'write results.json, report.md and plots there').helpGroup('Output:'),
    new Option('--json', 'results and verdict as JSON on stdout').helpGroup('Output:'),
  ];
  const command = new Command('tensorwire bench')
    .usage('--grpc <host:port> --http <url> --model <name> [options]')
    .description('Measures REST against gRPC on any server of the Open Inference Protocol, with its own model.')
    .helpOption('-h, --help', 'shows this')
    .addHelpText('after', HELP_END)
    .configureHelp({ helpWidth: 110 })
    .exitOverride();
  for (const row of rows) command.addOption(row);
  return command;
}

const HELP_END = `
Inputs are made from the model's metadata: dimensions of -1 grow to the size (a first one is a batch of 1 where others are free),
fractions of [0, 1), whole numbers below 100, words. A model that refuses those needs --shape or a request of its own:

  tensorwire bench --http http://localhost:8000 --model bert --input request.json
  {"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 4], "data": [101, 7592, 2088, 102]}]}

Ctrl-C leaves what is measured until then. Exit status: 0, 1 where something could not be measured, 2 for a wrong command line, 130 when
interrupted.`;

function targetOf({ grpc, http, ca, cert, key }: Given): LoadTarget {
  if (grpc === undefined && http === undefined) {
    throw new UsageError('no server: give --grpc host:port, --http http://host:port, or both to compare them');
  }
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('options --cert and --key need each other');
  const tls: TlsOptions = {
    ...(ca !== undefined && { ca: readPem('ca', ca) }),
    ...(cert !== undefined && { cert: readPem('cert', cert), key: readPem('key', key!) }),
  };
  const secure = Object.keys(tls).length > 0;
  return {
    ...(grpc !== undefined && { grpc: grpcDoor(grpc, secure ? tls : undefined) }),
    ...(http !== undefined && { http: { url: httpUrl(http), ...(secure && { tls }) } }),
  };
}

function grpcDoor(text: string, tls: TlsOptions | undefined): NonNullable<LoadTarget['grpc']> {
  const [, scheme, address] = /^(?:(grpcs?):\/\/)?([^/\s]+:\d{1,5})\/?$/.exec(text) ?? [];
  if (address === undefined) throw new UsageError(`option --grpc: ${quote(text)} is not host:port`);
  const secure = scheme === 'grpcs' || (scheme === undefined && tls !== undefined);
  return { address, ...(secure && { tls: tls ?? true }) };
}

function httpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new UsageError(`option --http: ${quote(text)} is not http://host:port`);
  }
  return url.href.replace(/\/+$/, '');
}

function armsOf({ arms, gzip }: Given, target: LoadTarget): ArmSpec[] {
  const possible = (encoding: Encoding) => (encoding.startsWith('grpc') ? target.grpc : target.http) !== undefined;
  const named: ArmSpec[] =
    arms === undefined
      ? ENCODINGS.filter(possible).map((encoding) => ({ encoding, gzip: false }))
      : arms.split(',').map(armOf);
  const missing = named.find(({ encoding }) => !possible(encoding));
  if (missing) {
    const door = missing.encoding.startsWith('grpc') ? '--grpc' : '--http';
    throw new UsageError(`option --arms: ${missing.encoding} needs ${door}`);
  }
  return gzip ? [...named, ...named.filter((arm) => !arm.gzip).map((arm) => ({ ...arm, gzip: true }))] : named;
}

function armOf(text: string): ArmSpec {
  const [name, ending] = text.trim().split('+');
  const encoding = ENCODINGS.find((known) => known === name);
  if (encoding === undefined || (ending !== undefined && ending !== 'gzip')) {
    throw new UsageError(`option --arms: ${quote(text)} is none of ${ENCODINGS.join(', ')}, each maybe with +gzip`);
  }
  return { encoding, gzip: ending === 'gzip' };
}

function namedShape(text: string): [string, number[]] {
  const [, name, dims] = /^(.+):((?:-1|\d+)(?:,(?:-1|\d+))*)$/.exec(text) ?? [];
  if (name === undefined) throw new UsageError(`option --shape: ${quote(text)} is not input:1,-1,3`);
  return [name, dims!.split(',').map(Number)];
}

function numberList(name: string, text: string, isWhole: boolean): number[] {
  return text.split(',').map((part) => (isWhole ? whole(name, part, 0) : positive(name, part, 0)));
}

function positive(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new UsageError(`option --${name}: ${quote(text)} is not a number above 0`);
  }
  const most = MOST[name];
  if (most !== undefined && value > most) throw new UsageError(`option --${name}: ${quote(text)} is more than ${most}`);
  return value;
}

function whole(name: string, text: string | undefined, fallback: number): number {
  const value = positive(name, text, fallback);
  if (!Number.isSafeInteger(value))
    throw new UsageError(`option --${name}: ${quote(text!)} is not a whole number above 0`);
  return value;
}

function readFile(option: string, path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`option --${option}: ${(error as Error).message}`);
  }
}

function readPem(option: string, path: string): Uint8Array {
  const bytes = readFile(option, path);
  if (!Buffer.from(bytes).includes('-----BEGIN ')) throw new UsageError(`option --${option}: ${path} is no PEM`);
  return bytes;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}
