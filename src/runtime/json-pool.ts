/**
 * The pool of JSON workers: large bodies are parsed and large responses printed off the main thread.
 *
 * Called by `rest/`. Owns its threads and the bound on what waits for them. Memory is moved to the worker and back, never copied;
 * what is handed in is detached. Knows no request, client or status code.
 */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { EmbeddingsReply, ParsedEmbeddings } from '../base/embeddings-json.js';
import { ServeError } from '../base/errors.js';
import type { JsonInferRequest, JsonInferResponse, JsonObject, JsonReply, JsonTask } from '../base/tensor-json.js';

export interface JsonPoolOptions {
  /** Threads; 1 parses some 100 MB of JSON numbers a second. */
  readonly size?: number;
  /** Tasks accepted and not finished, together. */
  readonly maxTasks?: number;
  /** Bytes of those tasks, together. */
  readonly maxBytes?: number;
  /** The compiled worker; the one beside the compiled pool unless a test says otherwise. */
  readonly workerUrl?: URL;
  /** How long a worker may take to load its module; a failed load would leave the first task waiting for ever. */
  readonly startTimeoutMs?: number;
}

export interface JsonPool {
  /** Resolves when the workers answer; rejects with INTERNAL when they do not start. */
  ready(): Promise<void>;
  /** Parses an infer request. Takes `body`: its memory is moved away at once. Rejects with ServeError only. */
  parse(body: Uint8Array<ArrayBuffer>): Promise<JsonInferRequest>;
  /** Prints an infer response. Takes the memory of the outputs. Rejects with ServeError only. */
  print(response: JsonInferResponse): Promise<Uint8Array<ArrayBuffer>>;
  /** Parses a request of free form, as {@link parse} does an infer request. */
  parseObject(body: Uint8Array<ArrayBuffer>): Promise<JsonObject>;
  /** Parses an embeddings request, as {@link parse} does an infer request. */
  parseEmbeddings(body: Uint8Array<ArrayBuffer>): Promise<ParsedEmbeddings>;
  /** Prints an embeddings reply. Takes the memory of the vectors. Rejects with ServeError only. */
  printEmbeddings(reply: EmbeddingsReply): Promise<Uint8Array<ArrayBuffer>>;
  /** Finishes what was accepted, then ends the threads. Later calls are refused with UNAVAILABLE. */
  close(): Promise<void>;
}

type Answer = Extract<JsonReply, { ok: true }>;

export function createJsonPool(options: JsonPoolOptions = {}): JsonPool {
  const { size = 1, maxTasks = 1024, maxBytes = 256 * 1024 * 1024, startTimeoutMs = 20_000 } = options;
  const workerUrl = options.workerUrl ?? new URL('../workers/json-worker.js', import.meta.url);
  const pool = new Piscina<JsonTask, JsonReply>({
    filename: fileURLToPath(workerUrl),
    minThreads: size,
    maxThreads: size,
    recordTiming: false,
    // Blocking waits between tasks: these workers have nothing else to listen to.
    atomics: 'sync',
  });
  // A worker that dies rejects its tasks, which is where the failure is told; without a listener it would end the process.
  pool.on('error', () => {});
  let tasks = 0;
  let bytes = 0;
  let closing: Promise<void> | undefined;
  let drained = (): void => {};
  /** The workers did not start: what waits for them never ends. */
  let broken = false;

  async function run<Kind extends Answer['kind']>(
    task: JsonTask,
    buffers: Set<ArrayBuffer>,
  ): Promise<Answer & { kind: Kind }> {
    if (closing !== undefined) throw new ServeError('UNAVAILABLE', 'server is stopping');
    let size = 0;
    for (const buffer of buffers) size += buffer.byteLength;
    if (tasks >= maxTasks || bytes + size > maxBytes) {
      throw new ServeError('RESOURCE_EXHAUSTED', `JSON queue is full (${tasks} bodies, ${bytes} bytes)`);
    }
    tasks++;
    bytes += size;
    let reply: JsonReply;
    try {
      reply = await pool.run(task, { transferList: [...buffers] });
    } catch (error) {
      throw new ServeError('INTERNAL', 'JSON worker failed', { cause: error });
    } finally {
      tasks--;
      bytes -= size;
      if (tasks === 0) drained();
    }
    if (!reply.ok) throw new ServeError(reply.code, reply.message);
    return reply as Answer & { kind: Kind };
  }

  async function shutDown(): Promise<void> {
    // piscina's own close() with several workers is content with the first task that ends.
    if (tasks > 0 && !broken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      drained = resolve;
      await promise;
    }
    await pool.destroy();
  }

  return {
    async ready() {
      const { promise, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => reject(new ServeError('INTERNAL', 'JSON worker does not start')), startTimeoutMs);
      try {
        await Promise.race([promise, ...Array.from({ length: size }, () => run({ kind: 'ping' }, new Set()))]);
      } catch (error) {
        broken = true;
        throw error;
      } finally {
        clearTimeout(timer);
      }
    },
    async parse(body) {
      const own = owned(body);
      const reply = await run<'parsed'>({ kind: 'parse', body: own }, new Set([own.buffer]));
      return reply.request;
    },
    async print(response) {
      const buffers = new Set<ArrayBuffer>();
      const outputs = response.outputs.map((output) => {
        if (output.data === undefined) return output;
        const data = owned(output.data);
        buffers.add(data.buffer);
        return { ...output, data };
      });
      const reply = await run<'printed'>({ kind: 'print', response: { ...response, outputs } }, buffers);
      return reply.text;
    },
    async parseObject(body) {
      const own = owned(body);
      const reply = await run<'parsed-object'>({ kind: 'parse-object', body: own }, new Set([own.buffer]));
      return reply.object;
    },
    async parseEmbeddings(body) {
      const own = owned(body);
      const reply = await run<'parsed-embeddings'>({ kind: 'parse-embeddings', body: own }, new Set([own.buffer]));
      return reply.parsed;
    },
    async printEmbeddings(reply) {
      const printed = await run<'printed'>({ kind: 'print-embeddings', reply }, new Set([reply.vectors.buffer]));
      return printed.text;
    },
    close() {
      closing ??= shutDown();
      return closing;
    },
  };
}

/** The same bytes in memory that holds nothing else and can be moved: itself, unless it is shared or a view on more. */
function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) return bytes as Uint8Array<ArrayBuffer>;
  return Uint8Array.from(bytes);
}
