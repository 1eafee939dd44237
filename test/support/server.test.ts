import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { startServer } from './server.js';

test('a server that ends before it is ready is reported with its exit status and what it wrote to stderr', async () => {
  const started = startServer({ repository: tmpdir(), args: ['--grpc-port', '70000'] });
  await expect(started).rejects.toThrow(/^server ended with status 1: .*grpc-port.*70000/);
});
