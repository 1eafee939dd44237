/**
 * A member of a JSON request with a wrong value: thrown within a parser, which returns it as data.
 *
 * Called by the parsers of OpenAI's requests, whose errors name the member apart from the sentence. Must not leave the parser: across
 * threads it would lose its class.
 */
import type { ServeError } from './errors.js';
import type { JsonReader } from './json-reader.js';

export class MemberError extends Error {
  override readonly name = 'MemberError';
  readonly param: string;

  constructor(param: string, message: string) {
    super(message);
    this.param = param;
  }
}

/** The error for a value of the wrong type at the reader's position; where no value starts, that of malformed JSON. */
export function wrongType(reader: JsonReader, param: string, message: string): MemberError | ServeError {
  const isValue = '"[{-0123456789tfnNI'.includes(String.fromCharCode(Math.max(reader.peek(), 0)));
  return isValue ? new MemberError(param, message) : reader.failure('expected a value');
}
