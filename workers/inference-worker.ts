/**
 * An inference worker: piscina starts it with one task that lasts as long as the pool, and that task serves a MessagePort.
 *
 * Why one long task: a piscina task costs main 50-65 us, a message on a port 3 us, and the scheduler must choose the worker, since
 * sessions live on some workers only. piscina still owns the thread: its start, its death, its replacement.
 *
 * Owns this thread's sessions and its view of the slabs. Runs one batch at a time, in order. Must not throw for an expected failure.
 */
import type { MessagePort } from 'node:worker_threads';
import { nowMs } from '#src/base/clock';
import type { CallReply, ControlMessage, Failure, ModelScan, RunReply, ToWorker } from '#src/runtime/messages';
import { failureOf } from './ort-error.js';
import { compileModel, Session } from './session.js';
import { scanFile } from './session-create.js';

/** The piscina task: serves `port` until `close`; resolves when every session is released. */
export default function serve({ port }: { port: MessagePort }): Promise<void> {
  return new Promise((resolve) => {
    const slabs = new Map<number, SharedArrayBuffer>();
    const sessions = new Map<number, Session>();
    // ONNX Runtime is entered by one message at a time: a queue, not recursion.
    const waiting: ToWorker[] = [];
    let busy = false;

    const runBatch = async (message: number[]): Promise<void> => {
      const session = sessions.get(message[1]!);
      const slab = slabs.get(message[2]!);
      if (!session || !slab) {
        const failure: Failure = { code: 'UNAVAILABLE', message: 'the worker does not have this model any more' };
        const now = nowMs();
        port.postMessage({
          type: 'ran',
          batch: message[0]!,
          computeStart: now,
          computeEnd: now,
          outputs: [],
          failure,
        } satisfies RunReply);
        return;
      }
      const { answer, transfer } = await session.run(message, slab);
      port.postMessage(answer, transfer);
    };

    const control = async (message: ControlMessage): Promise<unknown> => {
      switch (message.type) {
        case 'slab':
          slabs.set(message.slab, message.buffer);
          return undefined;
        case 'drop-slab':
          slabs.delete(message.slab);
          return undefined;
        case 'load': {
          const session = await Session.load(message.load);
          sessions.set(message.load.session, session);
          return session.metadata;
        }
        case 'scan': {
          const scan = await scanFile(message.scan.path, message.scan.directory);
          return {
            externalData: scan?.externalData ?? [],
            inputs: scan?.inputs,
            outputs: scan?.outputs,
          } satisfies ModelScan;
        }
        case 'compile':
          return compileModel(message.compile);
        case 'unload': {
          const session = sessions.get(message.session);
          sessions.delete(message.session);
          await session?.release();
          return undefined;
        }
        case 'close':
          for (const session of sessions.values()) await session.release();
          sessions.clear();
          return undefined;
        default:
          return message satisfies never;
      }
    };

    const next = async (): Promise<void> => {
      if (busy) return;
      busy = true;
      for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
        if (Array.isArray(message)) {
          await runBatch(message);
          continue;
        }
        let reply: CallReply | undefined;
        const call = 'call' in message ? message.call : -1;
        try {
          reply = { type: 'done', call, ok: true, value: await control(message) };
        } catch (error) {
          reply = { type: 'done', call, ok: false, failure: failureOf(error, 'load') };
        }
        if (call >= 0) port.postMessage(reply);
        if (message.type === 'close') {
          port.close();
          resolve();
          return;
        }
      }
      busy = false;
    };

    port.on('message', (message: ToWorker) => {
      waiting.push(message);
      void next();
    });
  });
}
