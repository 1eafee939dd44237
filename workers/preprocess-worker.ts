/**
 * A preprocess worker: piscina starts it with one task that lasts as long as the pool, and that task serves a MessagePort (see
 * workers/inference-worker.ts for why).
 *
 * Owns this thread's tokenizers and picture processors. Does one task at a time, in order, and answers the tasks of a message together.
 * Must not throw for an expected failure, and a task that fails leaves its neighbours alone.
 */
import type { MessagePort } from 'node:worker_threads';
import { invalid, printable, ServeError, withoutPaths } from '#src/base/errors';
import type { Failure } from '#src/runtime/messages';
import type {
  FromPreprocessWorker,
  Prepared,
  PreprocessReply,
  PreprocessTask,
  ProcessorSpec,
  ToPreprocessWorker,
} from '#src/runtime/preprocess-messages';
import { createImageProcessor, type ImageProcessor } from './image.js';
import { PromptProcessor } from './prompt.js';
import { TextProcessor } from './text.js';

interface Processor {
  readonly text: TextProcessor | undefined;
  readonly image: ImageProcessor | undefined;
  readonly prompt: PromptProcessor | undefined;
}

/** The piscina task: serves `port` until `close`. */
export default function serve({ port }: { port: MessagePort }): Promise<void> {
  return new Promise((resolve) => {
    const processors = new Map<number, Processor>();
    // sharp is entered by one message at a time: a queue, not recursion.
    const waiting: ToPreprocessWorker[] = [];
    let busy = false;

    const post = (message: FromPreprocessWorker, transfer: ArrayBuffer[] = []): void =>
      port.postMessage(message, transfer);

    const runTasks = async (tasks: readonly PreprocessTask[]): Promise<void> => {
      const replies: PreprocessReply[] = [];
      const memory = new Set<ArrayBuffer>();
      for (const task of tasks) {
        const reply = await replyTo(task, processors.get(task.processor));
        replies.push(reply);
        if (reply.ok) for (const { data } of reply.prepared.tensors) memory.add(data.buffer);
      }
      post(replies, [...memory]);
    };

    const handle = async (message: Exclude<ToPreprocessWorker, readonly PreprocessTask[]>): Promise<void> => {
      if (message.type === 'unregister') processors.delete(message.processor);
      if (message.type !== 'register') return;
      const { call, processor, spec } = message;
      try {
        processors.set(processor, await createProcessor(spec));
        post({ type: 'done', call });
      } catch (error) {
        post({ type: 'done', call, failure: failureOf(error) });
      }
    };

    const next = async (): Promise<void> => {
      if (busy) return;
      busy = true;
      for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
        if (isTasks(message)) await runTasks(message);
        else if (message.type !== 'close') await handle(message);
        else {
          port.close();
          resolve();
          return;
        }
      }
      busy = false;
    };

    port.on('message', (message: ToPreprocessWorker) => {
      waiting.push(message);
      void next();
    });
  });
}

const isTasks = (message: ToPreprocessWorker): message is readonly PreprocessTask[] => Array.isArray(message);

async function createProcessor({ text, image, prompt }: ProcessorSpec): Promise<Processor> {
  return {
    text: text && new TextProcessor(text),
    image: image && (await createImageProcessor(image)),
    prompt: prompt && new PromptProcessor(prompt),
  };
}

async function replyTo(task: PreprocessTask, processor: Processor | undefined): Promise<PreprocessReply> {
  try {
    return { task: task.task, ok: true, prepared: await prepare(task, processor) };
  } catch (error) {
    return { task: task.task, ok: false, failure: failureOf(error) };
  }
}

async function prepare({ contents, truncate }: PreprocessTask, processor: Processor | undefined): Promise<Prepared> {
  if (!processor) throw new ServeError('UNAVAILABLE', 'the preprocess worker does not have this model');
  const [first] = contents;
  if (first?.kind === 'prompt' || first?.kind === 'prompt_bare' || first?.kind === 'chat') {
    if (!processor.prompt) throw invalid('the model takes no prompts');
    return processor.prompt.prepare(first);
  }
  const of = (kind: 'text' | 'text_pair' | 'image') => contents.find((content) => content.kind === kind);
  const [text, pair, image] = [of('text'), of('text_pair'), of('image')];
  if (pair && !text) throw invalid('second sentences came without first ones');
  if (text && !processor.text) throw invalid('the model takes no text');
  if (image && !processor.image) throw invalid('the model takes no pictures');
  const fromText = text && processor.text?.prepare(text, pair, truncate);
  const fromImage = image && (await processor.image?.prepare(image));
  return {
    tensors: [...(fromText?.tensors ?? []), ...(fromImage ? [fromImage] : [])],
    rowTokens: fromText?.rowTokens ?? [],
  };
}

function failureOf(error: unknown): Failure {
  if (error instanceof ServeError) return { code: error.code, message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'INTERNAL', message: `preprocessing failed: ${printable(withoutPaths(message), 200)}` };
}
