/**
 * What to do where a server refuses tensors behind the JSON, because it may not have the binary tensor extension: its own words rarely say.
 *
 * One per client over REST, asked when a request has failed. Must not know how a server is asked.
 */
import { ClientError } from './client-error.js';

const BINARY_EXTENSION = 'binary_tensor_data';
/** What servers say that took the body for JSON. */
const MISREAD: ReadonlySet<number> = new Set([400, 415, 422, 500]);

export class BinaryHint {
  readonly #extensions: () => Promise<readonly string[]>;
  /** Whether the server lists the extension, or has used it; undefined = nobody knows yet. */
  #has: boolean | undefined;

  /** `extensions` asks the server for those it lists. */
  constructor(extensions: () => Promise<readonly string[]>) {
    this.#extensions = extensions;
  }

  /** An answer came: the server has the extension, listed or not. */
  answered(): void {
    this.#has = true;
  }

  /** The error with the hint, where that may help; else itself. Never rejects. */
  async explain(error: ClientError): Promise<ClientError> {
    const { code, message, httpStatus, attempts } = error;
    if (httpStatus === undefined || !MISREAD.has(httpStatus)) return error;
    this.#has ??= (await this.#extensions().catch(() => undefined))?.includes(BINARY_EXTENSION);
    if (this.#has !== false) return error;
    const hint = `the server lists no extension ${BINARY_EXTENSION}: if it has none, connect with encoding 'json'`;
    return new ClientError(code, `${message} (${hint})`, { httpStatus, attempts, cause: error });
  }
}
