import { expect, test } from 'vitest';
import { ClientError, connect } from '../../src/client/client.js';
import type { ClientOptions } from '../../src/client/types.js';

const GRPC: ClientOptions = { protocol: 'grpc', addresses: ['localhost:8001'] };

test('connect gives a client of the protocol asked for, without a server there', async () => {
  for (const protocol of ['grpc', 'rest'] as const) {
    const client = connect({ protocol, addresses: ['localhost:8001', '[::1]:8001', 'one.example:443'] });
    expect(client.protocol).toBe(protocol);
    await client.close();
  }
});

test.each<[Partial<Record<keyof ClientOptions, unknown>>, string]>([
  [{ protocol: 'http' }, "protocol is 'http', expected 'grpc' or 'rest'"],
  [{ protocol: undefined }, "protocol is undefined, expected 'grpc' or 'rest'"],
  [{ addresses: [] }, 'addresses is none, expected at least one host:port'],
  [{ addresses: 'localhost:8001' }, "addresses is 'localhost:8001', expected at least one host:port"],
  [
    { addresses: ['http://localhost:8001'] },
    "addresses is 'http://localhost:8001', expected host:port without a scheme, as localhost:8001",
  ],
  [{ addresses: ['localhost'] }, "addresses is 'localhost', expected host:port without a scheme, as localhost:8001"],
  [
    { addresses: ['localhost:0'] },
    "addresses is 'localhost:0', expected host:port without a scheme, as localhost:8001",
  ],
  [
    { addresses: ['localhost:65536'] },
    "addresses is 'localhost:65536', expected host:port without a scheme, as localhost:8001",
  ],
  [{ connections: 0 }, 'connections is 0, expected a whole number of at least 1'],
  [{ connections: 1.5 }, 'connections is 1.5, expected a whole number of at least 1'],
  [{ timeoutMs: -1 }, 'timeoutMs is -1, expected a number of at least 0'],
  [{ timeoutMs: '5' }, "timeoutMs is '5', expected a number of at least 0"],
  [{ keepaliveMs: Number.NaN }, 'keepaliveMs is NaN, expected a number of at least 0'],
  [{ maxReceiveBytes: 0 }, 'maxReceiveBytes is 0, expected a whole number of at least 1'],
  [{ retry: { attempts: 0 } }, 'retry.attempts is 0, expected a whole number of at least 1'],
  [{ retry: { maxBackoffMs: -5 } }, 'retry.maxBackoffMs is -5, expected a number of at least 0'],
  [{ compression: 'br' }, "compression is 'br', expected 'none' or 'gzip'"],
  [{ encoding: 'json' }, "encoding is 'json', over gRPC it is 'raw' or 'typed'"],
  [{ tls: { key: 'k' } }, 'tls has a key but no cert, expected both or none'],
  [{ tls: { cert: 'c' } }, 'tls has a cert but no key, expected both or none'],
  [{ headers: { 'no name': 'x' } }, 'header \'no name\': Metadata key "no name" contains illegal characters'],
])('an option that can not be is refused, saying which: %#', (change, message) => {
  let error: unknown;
  try {
    connect({ ...GRPC, ...change } as ClientOptions);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ClientError);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', local: true, message });
});
