import type { ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { call, connect, type FrontEnd, type Stub, startFrontEnd } from './front-end.js';

let front: FrontEnd;
let health: Stub;

beforeAll(async () => {
  front = await startFrontEnd();
  health = connect('health', front.port);
});
beforeEach(() => front.engine.setReady(true));
afterAll(() => {
  health.close();
  front.server.close();
});

const SERVICES = ['', 'inference.GRPCInferenceService', 'inference.v1.InferenceService'];

test.each(SERVICES)('Check of "%s" follows the engine', async (service) => {
  expect((await call(health, 'Check', { service })).response).toEqual({ status: 'SERVING' });
  front.engine.setReady(false);
  expect((await call(health, 'Check', { service })).response).toEqual({ status: 'NOT_SERVING' });
});

test('Check of an unknown service is NOT_FOUND', async () => {
  expect((await call(health, 'Check', { service: 'nope' })).error).toMatchObject({ code: 5 });
  const long = await call(health, 'Check', { service: 'n'.repeat(100_000) });
  expect(long.error!.details.length).toBeLessThan(200);
});

test('List names every service', async () => {
  const { response } = await call(health, 'List', {});
  expect(Object.keys(response.statuses).sort()).toEqual(SERVICES);
});

/** Reads a Watch one status at a time. */
function watch(service: string) {
  const stream = health.Watch!({ service });
  const iterator = stream[Symbol.asyncIterator]() as AsyncIterator<{ status: string }>;
  return { stream, next: async () => (await iterator.next()).value.status as string };
}

test('Watch tells the state, then each change', async () => {
  const { stream, next } = watch('inference.GRPCInferenceService');
  expect(await next()).toBe('SERVING');
  front.engine.setReady(false);
  expect(await next()).toBe('NOT_SERVING');
  front.engine.setReady(false);
  front.engine.setReady(true);
  expect(await next()).toBe('SERVING');
  stream.on('error', () => {});
  stream.cancel();
});

test('Watch of an unknown service is SERVICE_UNKNOWN', async () => {
  const { stream, next } = watch('nope');
  expect(await next()).toBe('SERVICE_UNKNOWN');
  stream.on('error', () => {});
  stream.cancel();
});

test('at drain a Watch hears NOT_SERVING and ends with UNAVAILABLE', async () => {
  const other = await startFrontEnd();
  const stub = connect('health', other.port);
  const stream = stub.Watch!({ service: '' });
  const heard: string[] = [];
  const drained = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
  await new Promise<void>((resolve) => {
    stream.on('data', ({ status }: { status: string }) => {
      heard.push(status);
      if (heard.length === 1) resolve();
    });
  });
  await other.server.drain();
  expect((await drained).code).toBe(14);
  expect(heard).toEqual(['SERVING', 'NOT_SERVING']);
  stub.close();
});
