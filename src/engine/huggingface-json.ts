/**
 * One object of a JSON file that somebody else's tools wrote, read field by field: what is absent is undefined, what is of another
 * type than expected is an error that names file, field, expected and actual.
 *
 * Called by the other `huggingface-*.ts` files. Must not know what a field means. Fields that nobody asks for are not looked at.
 */
import { isUtf8 } from 'node:buffer';
import { invalid, printable, type ServeError } from '../base/errors.js';

type Plain = Readonly<Record<string, unknown>>;

export class JsonFields {
  /** As errors call it: `file 'config.json' of model 'm'`. */
  readonly subject: string;
  readonly #object: Plain;
  /** Path of the object in its file, with a dot behind; '' for the file's own. */
  readonly #path: string;

  constructor(subject: string, object: Plain, path = '') {
    this.subject = subject;
    this.#object = object;
    this.#path = path;
  }

  /** The file as an object. Throws INVALID_ARGUMENT for bytes that hold none. */
  static parse(subject: string, bytes: Uint8Array): JsonFields {
    const value = parseJson(subject, bytes);
    if (!isObject(value)) throw invalid(`${subject} must hold an object, got ${describe(value)}`);
    return new JsonFields(subject, value);
  }

  /** The file as a list of objects. Throws as `parse`. */
  static parseList(subject: string, bytes: Uint8Array): JsonFields[] {
    const value = parseJson(subject, bytes);
    if (!Array.isArray(value)) throw invalid(`${subject} must hold a list, got ${describe(value)}`);
    return value.map((item, index) => {
      if (!isObject(item)) throw invalid(`${subject}: [${index}] must be an object, got ${describe(item)}`);
      return new JsonFields(subject, item, `[${index}].`);
    });
  }

  /** Whether the field is there; null counts as absent, which is how Python writes None. */
  has(field: string): boolean {
    return this.#get(field) !== undefined;
  }

  keys(): string[] {
    return Object.keys(this.#object);
  }

  isNumber(field: string): boolean {
    return typeof this.#get(field) === 'number';
  }

  isString(field: string): boolean {
    return typeof this.#get(field) === 'string';
  }

  isList(field: string): boolean {
    return Array.isArray(this.#get(field));
  }

  isObject(field: string): boolean {
    return isObject(this.#get(field));
  }

  number(field: string): number | undefined {
    return this.#typed(field, 'a number', (value) => typeof value === 'number');
  }

  /** A whole number from `least`. */
  integer(field: string, least: number): number | undefined {
    const fits = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= least;
    return this.#typed(field, `a whole number >= ${least}`, fits);
  }

  string(field: string): string | undefined {
    return this.#typed(field, 'a string', (value) => typeof value === 'string');
  }

  boolean(field: string): boolean | undefined {
    return this.#typed(field, 'true or false', (value) => typeof value === 'boolean');
  }

  /** A list of numbers; a single number is a list of one. */
  numbers(field: string): readonly number[] | undefined {
    const value = this.#get(field);
    if (typeof value === 'number') return [value];
    return this.#typed(
      field,
      'a number or a list of numbers',
      (list): list is number[] => Array.isArray(list) && list.every((item) => typeof item === 'number'),
    );
  }

  /** A list of strings; a single string is a list of one. */
  strings(field: string): readonly string[] | undefined {
    const value = this.#get(field);
    if (typeof value === 'string') return [value];
    return this.#typed(
      field,
      'a string or a list of strings',
      (list): list is string[] => Array.isArray(list) && list.every((item) => typeof item === 'string'),
    );
  }

  object(field: string): JsonFields | undefined {
    const value = this.#typed(field, 'an object', isObject);
    return value && new JsonFields(this.subject, value, `${this.#path}${field}.`);
  }

  objects(field: string): readonly JsonFields[] | undefined {
    const list = this.#typed(
      field,
      'a list of objects',
      (value): value is Plain[] => Array.isArray(value) && value.every(isObject),
    );
    return list?.map((item, index) => new JsonFields(this.subject, item, `${this.#path}${field}[${index}].`));
  }

  /** The error for a field whose value has the right type and is wrong all the same. */
  wrong(field: string, expected: string): ServeError {
    const actual = describe(this.#get(field));
    return invalid(`${this.subject}: '${printable(this.#path + field, 128)}' must be ${expected}, got ${actual}`);
  }

  #get(field: string): unknown {
    return Object.hasOwn(this.#object, field) ? (this.#object[field] ?? undefined) : undefined;
  }

  #typed<T>(field: string, expected: string, fits: (value: unknown) => value is T): T | undefined {
    const value = this.#get(field);
    if (value === undefined) return undefined;
    if (!fits(value)) throw this.wrong(field, expected);
    return value;
  }
}

/** Throws INVALID_ARGUMENT. */
function parseJson(subject: string, bytes: Uint8Array): unknown {
  if (!isUtf8(bytes)) throw invalid(`${subject} is not valid UTF-8`);
  try {
    // An editor on Windows may have put a byte order mark in front, which the decoder drops.
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw invalid(`${subject} is not valid JSON: ${printable((error as Error).message, 200)}`);
  }
}

function isObject(value: unknown): value is Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  return printable(JSON.stringify(value), 64);
}
