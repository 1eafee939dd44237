/**
 * The servers that the experiments ask: this one, started once and shared, with and without TLS, or afresh where one is to be alone.
 *
 * Made by `run.ts`. Owns the servers and stops them. Models: `identity` (FP32 of any length, given back), `compute` (some
 * milliseconds, never batched, one at a time) and `slow` (more than a tenth of a second, one at a time, so that one worker of the two
 * stays free), `digits` with its labels, and `stories`, which generates text.
 */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { identityModel, slowModel, writeModel } from '../../test/support/onnx.js';
import { startTensorwire, workDirectory } from '../peer.js';

/** A turn of the loop in `compute` and `slow` takes about a third of a millisecond. */
const COMPUTE_TURNS = 8;
const SLOW_TURNS = 350;

const FIXTURES = join(import.meta.dirname, '../../test/fixtures/tls');

export interface Served {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Of the serving process. */
  readonly pid: number;
  /** PEM of the authority that signed the server's certificate for `localhost`; undefined without TLS. */
  readonly ca: Buffer | undefined;
}

export interface Lab {
  plain(): Promise<Served>;
  secure(): Promise<Served>;
  /** A server of its own with one worker and `identity` alone; `stop` ends it. */
  replica(): Promise<Served & { stop(): Promise<void> }>;
  close(): Promise<void>;
}

export function openLab(): Lab {
  const running: Promise<Served & { stop(): Promise<void> }>[] = [];
  let folder: string | undefined;
  let small: string | undefined;
  const repository = (): string => (folder ??= writeModels());
  const start = async (models: string, workers: number, ca?: Buffer) => {
    const limits = ['--worker-count', String(workers), '--intra-op-thread-count', '1'];
    const { server, pid, stop } = await startTensorwire(models, [...limits, ...(ca ? TLS : [])]);
    return { grpcPort: server.grpcPort, httpPort: server.httpPort, pid, ca, stop };
  };
  const shared = (ca: () => Buffer | undefined): (() => Promise<Served>) => {
    let served: Promise<Served & { stop(): Promise<void> }> | undefined;
    return () => {
      if (!served) running.push((served = start(repository(), 2, ca())));
      return served;
    };
  };
  return {
    plain: shared(() => undefined),
    secure: shared(() => readFileSync(join(FIXTURES, 'authority.pem'))),
    replica: () => start((small ??= writeIdentity(workDirectory())), 1),
    async close() {
      for (const served of running) await (await served).stop();
    },
  };
}

const TLS = ['http', 'grpc'].flatMap((port) => [
  `--${port}-use-ssl=true`,
  `--${port}-server-cert=${join(FIXTURES, 'server.pem')}`,
  `--${port}-server-key=${join(FIXTURES, 'server.key')}`,
]);

function writeModels(): string {
  const directory = writeIdentity(workDirectory());
  const single = 'max_batch_size: 1\ninstance_group [{ count: 1 }]\n';
  writeModel(directory, 'compute', { config: single, versions: { 1: slowModel(COMPUTE_TURNS) } });
  writeModel(directory, 'slow', { config: single, versions: { 1: slowModel(SLOW_TURNS) } });
  const own = join(import.meta.dirname, '../../models');
  for (const model of ['digits', 'stories']) cpSync(join(own, model), join(directory, model), { recursive: true });
  return directory;
}

function writeIdentity(directory: string): string {
  writeModel(directory, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  return directory;
}
