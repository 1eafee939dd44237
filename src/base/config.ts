/**
 * The configuration of one run: command line over environment over default, checked, complete and frozen.
 *
 * Called by `main.ts` and `server.ts`; everything below is handed the values it needs. The one home of commander. Owns the
 * rules between options; the options themselves stand in `options.ts`. Must not print, exit or read `process.env`.
 * The launcher runs under older Nodes too (see `serving-node.ts`), so this file and its imports keep to what Node 18 has.
 */

import { readFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, Option } from 'commander';
import { Complaint, type Kind } from './option-kind.js';
import { OPTIONS, type Row } from './options.js';

type Field = keyof typeof OPTIONS;
type Values = { readonly [F in Field]: (typeof OPTIONS)[F] extends Row<infer T> ? T : never };

/** All options by field name (`--http-port` is `httpPort`), with the defaults that depend on other options filled in. */
export interface Config extends Values {
  readonly metricsAddress: string;
  readonly modelCacheDirectory: string;
  /** What deserves a log line once there is a log, such as a variable that means nothing. */
  readonly warnings: readonly string[];
}

/** The command line or the environment is wrong: `message` is one line naming option, value and what would be right. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** `--help` or `--version` was asked for: `text` is the answer for stdout, and nothing should start. */
export class ConfigAnswer extends Error {
  override readonly name = 'ConfigAnswer';
  constructor(readonly text: string) {
    super('an answer, not a configuration');
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads `argv` (without node and script). Throws `ConfigError`, or `ConfigAnswer` for `--help` and `--version`. */
export function parseConfig(argv: readonly string[], env: Environment): Config {
  const given = readCommandLine(argv);
  const fields = Object.keys(OPTIONS) as Field[];
  const values = Object.fromEntries(fields.map((field) => [field, readValue(field, given, env)])) as unknown as Values;
  const config: Config = {
    ...values,
    modelRepository: values.modelRepository.length > 0 ? values.modelRepository : [packagePath('models')],
    metricsAddress: values.metricsAddress ?? values.httpAddress,
    modelCacheDirectory: values.modelCacheDirectory ?? join(tmpdir(), `tensorwire-${userId()}`),
    logLevel: values.logVerbose > 1 ? 'trace' : values.logVerbose === 1 ? 'debug' : values.logLevel,
    warnings: unknownVariables(env).map((name) => `${name} is set, but no option is called that; see --help`),
  };
  assertTls(config, 'http');
  assertTls(config, 'grpc');
  assertPortsApart(config);
  for (const value of Object.values(config)) Object.freeze(value);
  return Object.freeze(config);
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(packagePath('package.json'), 'utf8')) as { version: string }).version;
}

/** A path in the package, the same seen from src/ and from dist/. */
function packagePath(name: string): string {
  return fileURLToPath(new URL(`../../${name}`, import.meta.url));
}

function userId(): string | number {
  return process.getuid?.() ?? userInfo().username;
}

/** `httpPort` -> `http-port`. */
function flagOf(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `httpPort` -> `TENSORWIRE_HTTP_PORT`. */
function variableOf(field: string): string {
  return `TENSORWIRE_${flagOf(field).replaceAll('-', '_').toUpperCase()}`;
}

type Given = ReadonlyMap<Field, readonly string[]>;

/** The texts that stand on the command line, by field; the values are looked at later. */
function readCommandLine(argv: readonly string[]): Given {
  const given = new Map<Field, string[]>();
  const command = new Command('tensorwire')
    .usage('[options]')
    .description("Serves ONNX models over gRPC and REST (Open Inference Protocol v2, with Triton's extensions).")
    .helpOption('-h, --help', 'Shows this.')
    .version(`tensorwire ${packageVersion()}`, '-V, --version', 'Shows the version.')
    .addHelpText('after', HELP_END)
    .configureHelp({ helpWidth: 110, optionDescription: (option) => option.description })
    .exitOverride();
  let printed = '';
  command.configureOutput({ writeOut: (part) => (printed += part), writeErr: () => undefined });
  for (const field of Object.keys(OPTIONS) as Field[]) {
    const row: Row<unknown> = OPTIONS[field];
    for (const name of [flagOf(field), ...(row.aliases ?? [])]) {
      const option = new Option(`--${name} ${row.kind.placeholder}`, describe(field)).helpGroup(row.group);
      if (row.kind.bare) option.preset('true');
      command.addOption(option.hideHelp(name !== flagOf(field)).argParser((text) => collect(given, field, text)));
    }
  }
  try {
    command.parse(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new ConfigAnswer(printed);
    throw new ConfigError(commandLineComplaint(error, command));
  }
  return given;
}

function collect(given: Map<Field, string[]>, field: Field, text: string): string[] {
  const texts = [...(given.get(field) ?? []), text];
  given.set(field, texts);
  return texts;
}

const HELP_END = `
Each option can come from the environment: --http-port from TENSORWIRE_HTTP_PORT, and so on; the command line wins.
Where an option may be repeated, its variable separates the values by ";".

tensorwire bench --help   measures REST against gRPC on any server of the Open Inference Protocol`;

function describe(field: Field): string {
  const row: Row<unknown> = OPTIONS[field];
  const fallback = row.fallbackText ?? String(row.fallback ?? 'none');
  const aliases = (row.aliases ?? []).map((alias) => `, also --${alias}`).join('');
  return `${row.sentence} (default: ${fallback}; env: ${variableOf(field)}${aliases})`;
}

/** commander's complaint as one line in our words. */
function commandLineComplaint(error: CommanderError, command: Command): string {
  const about = /'(.*?)'/s.exec(error.message)?.[1] ?? '';
  switch (error.code) {
    case 'commander.unknownOption': {
      const name = about.replace(/=.*/s, '');
      return `option ${quote(name)} is unknown; ${suggestion(error, name, command) ?? 'see --help for those there are'}`;
    }
    case 'commander.optionMissingArgument': {
      const [name, placeholder] = about.split(' ');
      return `option ${name} needs a value: ${placeholder}`;
    }
    case 'commander.excessArguments':
      return `argument ${quote(command.args[0] ?? '')} is not expected: options start with -- (see --help)`;
    default:
      return error.message.replaceAll(/\s+/g, ' ').replace(/^error: /, '');
  }
}

/** commander compares the whole argument with the options it knows, so one with a value is tried again without it. */
function suggestion(error: CommanderError, name: string, command: Command): string | undefined {
  let { message } = error;
  try {
    if (!message.includes('Did you mean')) command.parse([name], { from: 'user' });
  } catch (again) {
    message = again instanceof CommanderError ? again.message : message;
  }
  const meant = /\(Did you mean (?:one of )?(.*)\?\)/.exec(message)?.[1];
  return meant === undefined ? undefined : `did you mean ${meant}?`;
}

function readValue(field: Field, given: Given, env: Environment): unknown {
  const { kind, fallback }: Row<unknown> = OPTIONS[field];
  const texts = given.get(field);
  if (texts !== undefined) return parseTexts(field, kind, texts, '');
  const name = variableOf(field);
  const variable = env[name];
  if (variable === undefined || variable === '' || isServiceLink(variable)) return fallback;
  const parts = kind.repeatable ? variable.split(';').filter((part) => part !== '') : [variable];
  return parseTexts(field, kind, parts, ` from ${name}`);
}

/** Of a repeated option that takes one value the last counts, so that a script's options can be overridden behind them. */
function parseTexts(field: Field, kind: Kind<unknown>, texts: readonly string[], origin: string): unknown {
  try {
    return kind.parse(kind.repeatable ? texts : texts.slice(-1));
  } catch (error) {
    if (!(error instanceof Complaint)) throw error;
    const wrong = kind.repeatable ? (texts.find((text) => !accepts(kind, text)) ?? '') : (texts.at(-1) ?? '');
    throw new ConfigError(`option --${flagOf(field)}: ${quote(wrong)}${origin} ${error.message}`);
  }
}

function accepts(kind: Kind<unknown>, text: string): boolean {
  try {
    kind.parse([text]);
    return true;
  } catch {
    return false;
  }
}

function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}

/**
 * A Kubernetes Service called tensorwire-http puts TENSORWIRE_HTTP_PORT=tcp://10.0.0.7:8000 into every pod of its
 * namespace: not meant for us.
 */
function isServiceLink(value: string): boolean {
  return /^(tcp|udp|sctp):\/\//.test(value);
}

function unknownVariables(env: Environment): string[] {
  const known = new Set(Object.keys(OPTIONS).map(variableOf));
  const fromService = /_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP|SCTP).*)?$/;
  return Object.keys(env).filter(
    (name) => name.startsWith('TENSORWIRE_') && !known.has(name) && !fromService.test(name),
  );
}

function assertTls(config: Config, protocol: 'http' | 'grpc'): void {
  const useSsl = config[`${protocol}UseSsl`];
  const mutual = config[`${protocol}UseSslMutual`];
  const files = (['ServerCert', 'ServerKey', 'RootCert'] as const).map((end) => `${protocol}${end}` as const);
  const [needed, unneeded] = mutual ? [files, []] : useSsl ? [files.slice(0, 2), files.slice(2)] : [[], files];
  for (const field of needed) {
    if (config[field] !== undefined) continue;
    const asking = flagOf(`${protocol}UseSsl${mutual ? 'Mutual' : ''}`);
    throw new ConfigError(`option --${asking}: true needs --${flagOf(field)} <file> too`);
  }
  // A certificate that nothing uses means that somebody believes the port to be safer than it is.
  for (const field of unneeded) {
    if (config[field] === undefined) continue;
    const missing = flagOf(`${protocol}UseSsl${field.endsWith('RootCert') ? 'Mutual' : ''}`);
    throw new ConfigError(`option --${flagOf(field)}: ${quote(config[field])} is of no use without --${missing}`);
  }
}

function assertPortsApart(config: Config): void {
  const taken = new Map<string, string>();
  for (const protocol of ['http', 'grpc', 'metrics'] as const) {
    const port = config[`${protocol}Port`];
    const allowed = config[`allow${protocol[0]?.toUpperCase()}${protocol.slice(1)}` as 'allowHttp'];
    if (!allowed || port === 0) continue;
    const place = `${config[`${protocol}Address`]} ${port}`;
    const other = taken.get(place);
    if (other !== undefined) {
      throw new ConfigError(`option --${protocol}-port: ${port} is also that of --${other}-port; each needs its own`);
    }
    taken.set(place, protocol);
  }
}
