/**
 * A load of everything that the dashboard shows: each encoding, streams over both protocols, failures, and connections for one request.
 *
 * Called by `prometheus.ts`. Owns its clients and counts what it asked; ends when it is told to, with all that it began answered.
 */
import { request as httpRequest } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { ARMS, createArmClient, type RawTensor } from '../e2e/arms.js';
import { call, connect } from '../grpc/front-end.js';
import type { Target } from './run.js';

/** Inferences that were asked and answered, by protocol. */
export interface Asked {
  rest: number;
  grpc: number;
}

export interface Load {
  readonly asked: Readonly<Asked>;
  /** Resolves when the last request is answered; rejects with the first failure there was. */
  stop(): Promise<void>;
}

/** Pause between the rounds of one client. */
const PAUSE_MS = 20;
const ELEMENTS = 512;

/** Begins to ask `model`, which gives back one FP32 tensor, and `writer`, which writes text. */
export function startLoad(target: Target, model: string, writer: string): Load {
  const client = createArmClient(target);
  const open = connect('open', target.grpcPort);
  const v1 = connect('v1', target.grpcPort);
  const url = `http://127.0.0.1:${target.httpPort}`;
  const asked: Asked = { rest: 0, grpc: 0 };
  const tensor: RawTensor = {
    name: 'INPUT0',
    datatype: 'FP32',
    shape: [1, ELEMENTS],
    data: Buffer.alloc(4 * ELEMENTS, 1),
  };
  let stopped = false;

  async function encodings(): Promise<void> {
    for (const arm of ARMS) {
      await client.infer(arm, model, [tensor]);
      asked[arm.startsWith('REST') ? 'rest' : 'grpc']++;
    }
  }

  /** A text over each protocol, word by word; two messages on one stream of tensors. */
  async function streams(): Promise<void> {
    const body = JSON.stringify({ text_input: 'Once upon a time', parameters: { max_tokens: 8 } });
    const events = await fetch(`${url}/v2/models/${writer}/generate_stream`, { method: 'POST', body });
    if (!events.ok || !(await events.text()).includes('text_output'))
      throw new Error('no text over server-sent events');
    asked.rest++;
    const text = {
      model_name: writer,
      inputs: [{ name: 'text_input', shape: [1], datatype: 'BYTES', raw_contents: element('Once') }],
    };
    await drained(v1.StreamingModelInfer!({ ...text, parameters: { max_tokens: '8' } }));
    asked.grpc++;
    const tensors = open.ModelStreamInfer!();
    const ended = drained(tensors);
    const { data, ...head } = tensor;
    for (let i = 0; i < 2; i++) tensors.write({ model_name: model, inputs: [head], raw_input_contents: [data] });
    tensors.end();
    await ended;
    asked.grpc += 2;
  }

  /** What a client may do wrong, and what the server refuses. */
  async function failures(): Promise<void> {
    for (const path of ['/v2/models/no_such_model/config', '/no/such/path'])
      await (await fetch(url + path)).arrayBuffer();
    await (await fetch(`${url}/v2/repository/models/${model}/load`, { method: 'POST' })).arrayBuffer();
    await call(open, 'ModelMetadata', { name: 'no_such_model' });
    await call(open, 'RepositoryModelLoad', { model_name: model });
  }

  /** A connection for one request, on each protocol. */
  async function connections(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const request = httpRequest(`${url}/v2/health/live`, { agent: false }, (response) =>
        response.resume().once('close', resolve),
      );
      request.once('error', reject).end();
    });
    const stub = connect('open', target.grpcPort);
    const { error } = await call(stub, 'ServerLive', {});
    stub.close();
    if (error) throw error;
  }

  const loops = [encodings, encodings, streams, failures, connections].map(async (round) => {
    while (!stopped) {
      await round();
      await wait(PAUSE_MS);
    }
  });
  const done = Promise.all(loops);
  // Its failure is told by stop().
  done.catch(() => {
    stopped = true;
  });
  return {
    asked,
    async stop() {
      stopped = true;
      try {
        await done;
      } finally {
        client.close();
        open.close();
        v1.close();
      }
    },
  };
}

/** One BYTES element. */
function element(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Resolves when a stream of replies has ended well. */
function drained(stream: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.on('data', () => undefined);
    stream.once('end', resolve).once('error', reject);
  });
}
