/**
 * What a request's content type says of its body.
 *
 * Called by the routes that read one.
 */
import type { IncomingMessage } from 'node:http';
import { printable } from '../base/errors.js';
import { HttpError } from './status.js';

/** Whether the body is said to be a picture; which formats are taken, the decoder says. */
export function isPictureType({ headers }: IncomingMessage): boolean {
  return /^\s*image\//i.test(headers['content-type'] ?? '');
}

/** Content types are not asked for, as Triton does not; only what is clearly something else is refused. */
export function checkContentType(request: IncomingMessage): void {
  const type = request.headers['content-type'];
  if (type === undefined) return;
  const charset = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(type)?.[1]?.toLowerCase();
  const foreign = charset !== undefined && charset !== 'utf-8' && charset !== 'utf8' && charset !== 'us-ascii';
  if (foreign || /^\s*multipart\//i.test(type)) {
    throw new HttpError(415, `content type '${printable(type)}' is not supported, expected application/json in UTF-8`);
  }
}
