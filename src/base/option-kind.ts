/**
 * The kinds of value that an option can have: how its text is read and what would have been right.
 *
 * Called by `options.ts` (the table) and `config.ts`. Owns no option. A kind never names the option or quotes the value:
 * `config.ts` puts both in front of the complaint, so that all complaints read alike.
 */

import { accessSync, constants, statSync } from 'node:fs';
import { isIP } from 'node:net';

export interface Kind<T> {
  /** What stands for the value in `--help`. */
  readonly placeholder: string;
  /** Whether the option may stand without a value, meaning true. */
  readonly bare?: boolean;
  /** Whether the option may be given more than once; its variable separates values by `;`. */
  readonly repeatable?: boolean;
  /** The value of these texts (more than one only when repeatable). Throws `Complaint`. */
  parse(texts: readonly string[]): T;
}

/** What would have been right, as the end of a sentence: "must be ...". */
export class Complaint extends Error {}

const TRUE = new Set(['true', '1', 'on', 'yes']);
const FALSE = new Set(['false', '0', 'off', 'no']);

/** true/false and their usual spellings. */
export const flag: Kind<boolean> = {
  placeholder: '[bool]',
  bare: true,
  parse([text = '']) {
    const word = text.toLowerCase();
    if (TRUE.has(word)) return true;
    if (FALSE.has(word)) return false;
    throw new Complaint('must be true or false');
  },
};

/** A whole number between `min` and `max`, both included. */
export function integer(min: number, max: number): Kind<number> {
  return {
    placeholder: '<n>',
    parse([text = '']) {
      const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      if (value >= min && value <= max) return value;
      throw new Complaint(`must be a whole number from ${min} to ${max}`);
    },
  };
}

/** A TCP port; 0 lets the system choose a free one. */
export const port: Kind<number> = {
  placeholder: '<port>',
  parse([text = '']) {
    const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
    if (value <= 65535) return value;
    throw new Complaint('must be a port from 0 to 65535 (0 takes any free one)');
  },
};

/** One of a few words. */
export function choice<const T extends string>(...words: readonly T[]): Kind<T> {
  return {
    placeholder: `<${words.join('|')}>`,
    parse([text = '']) {
      const word = words.find((candidate) => candidate === text.toLowerCase());
      if (word !== undefined) return word;
      throw new Complaint(words.length === 1 ? `must be ${words[0]}` : `must be one of ${words.join(', ')}`);
    },
  };
}

/** Any text with something in it. */
export const text: Kind<string> = {
  placeholder: '<text>',
  parse([value = '']) {
    if (/^[^\p{Cc}]+$/u.test(value)) return value;
    throw new Complaint('must be a line of text, not empty');
  },
};

/** An address to listen on: an IP address or a host name, without a port. */
export const address: Kind<string> = {
  placeholder: '<address>',
  parse([value = '']) {
    const bare = value.replace(/^\[(.*)\]$/, '$1');
    // Digits and dots that are not an IP address are a mistyped one, not a host name.
    const isName = /^(?![\d.]+$)[a-z\d]([a-z\d.-]{0,252}[a-z\d])?$/i.test(value);
    if (isIP(bare) !== 0 || isName) return bare;
    throw new Complaint('must be an IP address or a host name, without a port');
  },
};

/** A readable file. */
export const file: Kind<string> = {
  placeholder: '<file>',
  parse([path = '']) {
    const what = whatIsAt(path, 'a file', constants.R_OK);
    if (what === 'a file') return path;
    throw new Complaint(`must be a readable file, but is ${what}`);
  },
};

/** Directories to read; none by default. */
export const directories: Kind<readonly string[]> = {
  placeholder: '<directory>',
  repeatable: true,
  parse: (paths) =>
    paths.map((path) => {
      const what = whatIsAt(path, 'a directory', constants.R_OK | constants.X_OK);
      if (what === 'a directory') return path;
      throw new Complaint(`must be a readable local directory, but is ${what}`);
    }),
};

/** A place for a directory that need not exist yet. */
export const directoryToMake: Kind<string> = {
  placeholder: '<directory>',
  parse([path = '']) {
    const what = whatIsAt(path, 'a directory', constants.R_OK | constants.W_OK | constants.X_OK);
    if (path !== '' && (what === 'a directory' || what === ABSENT)) return path;
    throw new Complaint(`must be a directory to write in, but is ${what}`);
  },
};

/** Origins as browsers send them, or `*`. */
export const origins: Kind<readonly string[]> = {
  placeholder: '<origin>',
  repeatable: true,
  parse: (values) =>
    values.map((value) => {
      if (value === '*' || (URL.canParse(value) && new URL(value).origin === value)) return value;
      throw new Complaint('must be * or an origin such as https://example.org (scheme, host and port, nothing more)');
    }),
};

/** Settings by backend and name, for now of `onnxruntime` alone; the last of a name counts. */
export type BackendSettings = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** `onnxruntime,<name>=<value>`. */
export const backendSettings: Kind<BackendSettings> = {
  placeholder: '<onnxruntime,name=value>',
  repeatable: true,
  parse: (values) => ({ onnxruntime: Object.freeze(Object.fromEntries(values.map(backendSetting))) }),
};

function backendSetting(value: string): [string, string] {
  const match = /^(?:(?<backend>[^,=]*),)?(?<name>[\w.-]+)=(?<setting>.*)$/.exec(value)?.groups;
  if (match === undefined) throw new Complaint('must be onnxruntime,<name>=<value>');
  const { backend, name = '', setting = '' } = match;
  // Triton takes this one setting without a backend too, for all of them.
  if (backend !== 'onnxruntime' && !(backend === undefined && name === 'default-max-batch-size')) {
    throw new Complaint('must be for the backend onnxruntime, the only one there is: onnxruntime,<name>=<value>');
  }
  if (name === 'default-max-batch-size' && !/^\d{1,6}$/.test(setting)) {
    throw new Complaint('must set default-max-batch-size to a whole number from 0 to 999999');
  }
  return [name, setting];
}

const ABSENT = 'not there';

function whatIsAt(path: string, wanted: 'a file' | 'a directory', mode: number): string {
  try {
    const what = statSync(path).isDirectory() ? 'a directory' : 'a file';
    if (what === wanted) accessSync(path, mode);
    return what;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return ABSENT;
    return code === 'EACCES' || code === 'EPERM' ? 'not accessible to this user' : 'not readable';
  }
}
