/**
 * A bare Fastify handler for inference in JSON: the body parsed by JSON.parse, its numbers made a typed array, and the same tensor
 * printed by JSON.stringify. It runs no model, checks nothing and measures nothing.
 *
 * Started by `bench/rest-json.ts` as a process of its own, with the V8 flags of this server; prints its port.
 */
import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';

interface Body {
  readonly inputs: readonly [{ readonly shape: readonly number[]; readonly data: readonly number[] }];
}

const app = fastify({ logger: false, bodyLimit: 64 * 1024 * 1024 });
app.removeAllContentTypeParsers();
app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
  done(null, JSON.parse(body as string));
});
app.post('/v2/models/identity/infer', (request, reply) => {
  const [{ shape, data }] = (request.body as Body).inputs;
  const tensor = Float32Array.from(data);
  reply.header('content-type', 'application/json');
  return JSON.stringify({
    model_name: 'identity',
    model_version: '1',
    outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape, data: Array.from(tensor) }],
  });
});
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`port ${(app.server.address() as AddressInfo).port}`);
