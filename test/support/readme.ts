/**
 * The fenced blocks of README.md, each with what it is for. A block that nobody knows what to do with is an error.
 *
 * Called by test/readme.test.ts, which runs them, and by the interop suite, which runs the Python ones. Reads the file, runs nothing.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * - `file`: source to be saved under the name in its first line; `fragment`: part of a config.pbtxt
 * - `shell`: harmless commands and curl; `grpcurl`; `script`: a saved file run by its language's runner
 * - `serve`: starts a server and leaves it running; `help`: answers and ends; `bench`: measures a server; `npm`: scripts of package.json
 * - `outside`: needs a host that tests must not (a package index); `reply`: what the block before prints, as JSON
 * - `unit`: options of a service manager; `drawing`: not to be run
 */
export type BlockKind =
  | 'file'
  | 'fragment'
  | 'shell'
  | 'grpcurl'
  | 'script'
  | 'serve'
  | 'help'
  | 'bench'
  | 'npm'
  | 'outside'
  | 'reply'
  | 'unit'
  | 'drawing';

export interface ReadmeBlock {
  /** Of the opening fence. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  readonly kind: BlockKind;
  /** For `file`: its name, relative to where the commands run. */
  readonly file: string;
  /** For `sh`: its commands, a continued or quoted one in one piece. */
  readonly commands: readonly string[];
}

const README = fileURLToPath(new URL('../../README.md', import.meta.url));

/** All blocks of README.md in order. Throws for a block or command of no known kind. */
export function readmeBlocks(markdown: string = readFileSync(README, 'utf8')): ReadmeBlock[] {
  const blocks: ReadmeBlock[] = [];
  for (const match of markdown.matchAll(/^```(\S*)\n(.*?)^```$/gms)) {
    const [, language = '', text = ''] = match;
    const line = markdown.slice(0, match.index).split('\n').length;
    const commands = language === 'sh' ? commandsOf(text) : [];
    const file = /^(?:#|\/\/) (\S+\.\w+)\n/.exec(text)?.[1] ?? '';
    const kind = kindOf(language, file, commands, blocks.at(-1));
    if (kind === undefined) throw new Error(`README.md:${line}: a block of no known kind:\n${text}`);
    blocks.push({ line, language, text, kind, file, commands });
  }
  return blocks;
}

function kindOf(
  language: string,
  file: string,
  commands: readonly string[],
  before: ReadmeBlock | undefined,
): BlockKind | undefined {
  switch (language) {
    case 'sh': {
      const kinds = new Set(commands.map(kindOfCommand));
      return kinds.size === 1 ? [...kinds][0] : undefined;
    }
    case 'json':
      return before?.kind === 'shell' || before?.kind === 'grpcurl' ? 'reply' : undefined;
    case 'python':
    case 'ts':
      return file === '' ? undefined : 'file';
    case 'pbtxt':
      return file === '' ? 'fragment' : 'file';
    case 'ini':
      return 'unit';
    case 'text':
    case 'dockerfile':
      return 'drawing';
    default:
      return undefined;
  }
}

const COMMANDS: readonly (readonly [RegExp, BlockKind])[] = [
  [/^(curl|mkdir|cp) /, 'shell'],
  [/^grpcurl /, 'grpcurl'],
  [/^(python3|npx tsx) \S+$/, 'script'],
  [/^node dist\/main\.js --help$/, 'help'],
  [/^node dist\/main\.js bench /, 'bench'],
  [/^([A-Z_]+=\S+ )*node dist\/main\.js( --|$)/, 'serve'],
  [/^npm ci && npm start$/, 'serve'],
  [/^npm /, 'npm'],
  [/^pip install /, 'outside'],
  [/^ONNXRUNTIME_NODE_INSTALL=\w+ node node_modules\/onnxruntime-node\/script\/install\.js$/, 'outside'],
];

function kindOfCommand(command: string): BlockKind | undefined {
  return COMMANDS.find(([pattern]) => pattern.test(command))?.[1];
}

/** Splits a script into commands: a line goes on behind a backslash or inside single quotes. */
function commandsOf(script: string): string[] {
  const commands: string[] = [];
  let command = '';
  for (const line of script.split('\n')) {
    command += command === '' ? line : `\n${line}`;
    const isOpen = command.endsWith('\\') || command.split("'").length % 2 === 0;
    if (isOpen) continue;
    if (command.trim() !== '') commands.push(command.trim());
    command = '';
  }
  if (command !== '') throw new Error(`README.md: a command without an end: ${command}`);
  return commands;
}
