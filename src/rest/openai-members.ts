/**
 * The members of an OpenAI request, taken one by one with their types; what nobody takes is refused by its name.
 *
 * Made for one request by `openai-chat.ts` and `openai-completions.ts`. null means absent. Says what is wrong with a value's type;
 * whether the value is in range is the engine's to say, where it has a range for it.
 */
import { printable } from '../base/errors.js';
import { isJsonObject } from '../base/json-document.js';
import type { JsonObject } from '../base/tensor-json.js';
import { invalidMember } from './openai-error.js';

export class Members {
  readonly #object: JsonObject;
  readonly #taken = new Set<string>();
  /** What stands before the name of a member in errors: '' or 'stream_options.'. */
  readonly #path: string;

  constructor(object: JsonObject, path = '') {
    this.#object = object;
    this.#path = path;
  }

  /** The value as it is; undefined where it is absent or null. */
  take(key: string): unknown {
    this.#taken.add(key);
    return Object.hasOwn(this.#object, key) ? (this.#object[key] ?? undefined) : undefined;
  }

  boolean(key: string): boolean | undefined {
    const value = this.take(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.#wrong(key, 'true or false');
  }

  string(key: string): string | undefined {
    const value = this.take(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.#wrong(key, 'a string');
  }

  number(key: string): number | undefined {
    const value = this.take(key);
    if (value === undefined || isNumber(value)) return value;
    throw this.#wrong(key, 'a number');
  }

  integer(key: string, least = -Infinity, most = Infinity): number | undefined {
    const value = this.take(key);
    if (value === undefined) return undefined;
    if (!Number.isInteger(value)) throw this.#wrong(key, 'a whole number');
    if ((value as number) < least || (value as number) > most) {
      throw invalidMember(this.#path + key, `'${this.#path}${key}' must be ${least} to ${most}, got ${value}`);
    }
    return value as number;
  }

  /** Whole numbers that are token ids by their form. */
  tokens(key: string): number[] | undefined {
    const value = this.take(key);
    if (value === undefined || isTokens(value)) return value;
    throw this.#wrong(key, 'an array of token ids');
  }

  object(key: string): JsonObject | undefined {
    const value = this.take(key);
    if (value === undefined || isJsonObject(value)) return value;
    throw this.#wrong(key, 'an object');
  }

  array(key: string): readonly unknown[] | undefined {
    const value = this.take(key);
    if (value === undefined || Array.isArray(value)) return value;
    throw this.#wrong(key, 'an array');
  }

  /** Members that change nothing here, whatever is in them. */
  ignore(...keys: readonly string[]): void {
    for (const key of keys) this.#taken.add(key);
  }

  /** A member that asks for what is not there; `harmless` says of which values that is not true. */
  refuse(key: string, why: string, harmless: (value: unknown) => boolean = () => false): void {
    const value = this.take(key);
    if (value === undefined || value === false || harmless(value)) return;
    throw invalidMember(this.#path + key, `'${this.#path}${key}' is not supported: ${why}`);
  }

  /** Throws for a member that was not asked for, which `what` does not have; null asks for nothing. */
  finish(what: string): void {
    for (const [key, value] of Object.entries(this.#object)) {
      if (this.#taken.has(key) || value === null) continue;
      const name = this.#path + printable(key);
      throw invalidMember(name, `unknown member '${name}', which ${what} does not take`);
    }
  }

  #wrong(key: string, expected: string): Error {
    const got = kindOf(this.#object[key]);
    return invalidMember(this.#path + key, `'${this.#path}${key}' must be ${expected}, got ${got}`);
  }
}

/** What a JSON value is, for an error. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return `the string '${printable(value, 24)}'`;
  return String(value);
}

/** JSON has no infinity, but 1e999 reads as one. */
export function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** No vocabulary is larger, and Hugging Face's token ids are 32-bit. */
const MAX_TOKEN = 2 ** 31 - 1;

export function isTokens(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0 && id <= MAX_TOKEN);
}
