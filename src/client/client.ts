/**
 * The package's door for users of servers: what `tensorwire/client` exports.
 *
 * Checks the options and gives a client of the protocol asked for. Imports nothing of the server.
 */
import { type ClientError, refusal } from './client-error.js';
import { createGrpcClient } from './grpc-client.js';
import { createRestClient } from './rest-client.js';
import { checkTls } from './tls.js';
import type { ClientOptions, InferenceClient } from './types.js';

export type { Datatype } from '../base/datatype.js';
export type { Budget, BudgetPhase } from './budget.js';
export { ClientError, type ClientErrorCode } from './client-error.js';
export type {
  CallOptions,
  ClientOptions,
  GeneratedPiece,
  GeneratedStream,
  GenerateRequest,
  InferAnswer,
  InferenceClient,
  InferRequest,
  InputTensor,
  ModelMetadata,
  OutputArrays,
  OutputTensor,
  ParameterValue,
  RetryOptions,
  ServerMetadata,
  TensorData,
  TensorMetadata,
  TlsOptions,
} from './types.js';

/**
 * A client for one server of the Open Inference Protocol, or for several alike. No connection is opened before the first call. Throws a
 * local INVALID_ARGUMENT that says which option can't be.
 */
export function connect(options: ClientOptions): InferenceClient {
  if (typeof options !== 'object' || options === null) throw notThat('options', options, 'an object');
  const { protocol, addresses, connections, timeoutMs, keepaliveMs, maxReceiveBytes, compression, retry, tls } =
    options;
  if (protocol !== 'grpc' && protocol !== 'rest') throw notThat('protocol', protocol, "'grpc' or 'rest'");
  if (!Array.isArray(addresses) || addresses.length === 0)
    throw notThat('addresses', addresses, 'at least one host:port');
  for (const address of addresses) checkAddress(address);
  checkNumber('connections', connections, { least: 1, whole: true });
  checkNumber('timeoutMs', timeoutMs, { least: 0 });
  checkNumber('keepaliveMs', keepaliveMs, { least: 0 });
  checkNumber('maxReceiveBytes', maxReceiveBytes, { least: 1, whole: true });
  checkNumber('retry.attempts', retry?.attempts, { least: 1, whole: true });
  checkNumber('retry.initialBackoffMs', retry?.initialBackoffMs, { least: 0 });
  checkNumber('retry.maxBackoffMs', retry?.maxBackoffMs, { least: 0 });
  if (compression !== undefined && compression !== 'none' && compression !== 'gzip')
    throw notThat('compression', compression, "'none' or 'gzip'");
  if (tls !== undefined && typeof tls !== 'boolean') checkTls(tls);
  return protocol === 'grpc' ? createGrpcClient(options) : createRestClient(options);
}

const ADDRESS = /^(\[[\da-f:.]+\]|[\w.-]+):(\d{1,5})$/i;

function checkAddress(address: unknown): void {
  const port = typeof address === 'string' ? Number(ADDRESS.exec(address)?.[2]) : Number.NaN;
  if (!(port >= 1 && port <= 65_535))
    throw notThat('addresses', address, 'host:port without a scheme, as localhost:8001');
}

function checkNumber(
  name: string,
  value: number | undefined,
  { least, whole = false }: { readonly least: number; readonly whole?: boolean },
): void {
  if (value === undefined) return;
  if (
    typeof value === 'number' &&
    value >= least &&
    value < Number.POSITIVE_INFINITY &&
    (!whole || Number.isInteger(value))
  )
    return;
  throw notThat(name, value, `${whole ? 'a whole number' : 'a number'} of at least ${least}`);
}

function notThat(name: string, actual: unknown, expected: string): ClientError {
  const shown = typeof actual === 'string' ? `'${actual}'` : Array.isArray(actual) ? 'none' : String(actual);
  return refusal(`${name} is ${shown}, expected ${expected}`);
}
