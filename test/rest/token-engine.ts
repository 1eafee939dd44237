/**
 * An engine whose model `words` says its prompt again, a word for each token, so that front ends can be tested on what they make of it.
 *
 * Prompts that begin with a name do something else:
 *   fail CODE       onError with that code at once
 *   late CODE       two tokens, then onError
 *   refuse TEXT     INVALID_ARGUMENT with that text
 *   throw           breaks the contract
 *   hold            nothing, ever
 *   flood           tokens of 64 KiB without end
 *   halves          a character that takes two tokens
 *
 * All running streams get one token in one turn; one whose window is used up waits for `taken`.
 */
import { type ErrorCode, ServeError } from '../../src/base/errors.js';
import type {
  GenerateCall,
  GeneratedDelta,
  GenerateHandler,
  GenerateRequest,
  GenerationEnd,
  Prompt,
  TokenLogprob,
} from '../../src/engine/generation-types.js';
import type { Cancel, InferHandler, InferRequest, InferStreamHandler, ModelMetadata } from '../../src/engine/types.js';
import { EchoEngine } from '../grpc/echo-engine.js';

export const WINDOW = 8;

/** The words of a text, each with the space before it. */
export function wordsOf(text: string): string[] {
  return text.match(/ ?[^ ]+/g) ?? [];
}

export function textOf(prompt: Prompt): string {
  if (prompt.kind === 'text') return prompt.text;
  if (prompt.kind === 'tokens') return prompt.tokens.join(' ');
  return String(prompt.messages.at(-1)!.content);
}

class Stream implements GenerateCall {
  at = 0;
  outstanding = 0;
  ended = false;
  readonly words: string[];
  readonly handler: GenerateHandler;
  readonly request: GenerateRequest;
  readonly #engine: TokenEngine;

  constructor(engine: TokenEngine, request: GenerateRequest, handler: GenerateHandler) {
    this.#engine = engine;
    this.request = request;
    this.handler = handler;
    this.words = wordsOf(textOf(request.prompt));
  }

  get promptTokens(): number {
    return this.words.length;
  }

  get isPaused(): boolean {
    return this.outstanding >= WINDOW;
  }

  cancel(): void {
    if (this.ended) return;
    this.ended = true;
    this.#engine.streams.delete(this);
    this.#engine.cancelled++;
    this.#engine.onCancelled?.();
  }

  taken(deltas: number): void {
    this.outstanding -= deltas;
    this.#engine.taken += deltas;
    if (this.outstanding < 0) throw new Error('more was taken than given');
    this.#engine.run();
  }

  /** One token. */
  step(): void {
    const { words, request } = this;
    const [kind, code] = words;
    if (kind === 'hold') return;
    if (kind === 'flood') this.#give({ text: 'x'.repeat(65_536), tokenId: this.at, logit: 1 });
    else if (kind === 'late' && this.at === 2) this.fail(new ServeError(code!.trim() as ErrorCode, 'it broke'));
    else if (kind === 'halves') this.#half();
    else if (this.at === words.length) this.#give(this.#delta('', this.#end('stop')));
    else {
      const last = this.at + 1 === request.sampling.maxTokens;
      this.#give(this.#delta(words[this.at]!, last ? this.#end('length') : undefined));
    }
  }

  fail(error: ServeError): void {
    this.ended = true;
    this.#engine.streams.delete(this);
    this.handler.onError(error);
  }

  #half(): void {
    const said = [{ text: '' }, { text: '\u00e9' }, { text: '' }][this.at]!;
    this.#give(this.#delta(said.text, this.at === 2 ? this.#end('stop') : undefined));
  }

  #end(finishReason: 'stop' | 'length'): GenerationEnd {
    const promptTokens = this.words.length;
    const cachedTokens = Math.min(2, promptTokens);
    return { finishReason, promptTokens, completionTokens: this.at + 1, cachedTokens, cumulativeLogprob: -1 };
  }

  #delta(text: string, end: GenerationEnd | undefined): GeneratedDelta {
    const { logprobs } = this.request.sampling;
    const token = (value: string, logprob: number): TokenLogprob => ({
      id: this.at,
      token: value,
      bytes: [...Buffer.from(value)],
      logprob,
    });
    const top = Array.from({ length: logprobs ?? 0 }, (_, i) => token(i === 0 ? text : `${text}${i}`, -i - 0.5));
    return {
      text,
      tokenId: this.at,
      logit: 0.5,
      ...(logprobs !== undefined && { logprob: { ...token(text, -0.5), offset: this.#offset(), top } }),
      ...(end && { end }),
    };
  }

  /** A word has its own place also where its text is given with a later one. */
  #offset(): number {
    return [...this.words.slice(0, this.at).join('')].length;
  }

  #give(delta: GeneratedDelta): void {
    this.at++;
    this.outstanding++;
    if (delta.end) {
      this.ended = true;
      this.#engine.streams.delete(this);
    }
    const { timeline } = this.request;
    timeline.computeEnd = timeline.scattered = timeline.firstToken + this.at;
    this.handler.onDelta(delta);
  }
}

export class TokenEngine extends EchoEngine {
  readonly generated: GenerateRequest[] = [];
  readonly streams = new Set<Stream>();
  taken = 0;
  /** Called for each cancel. */
  onCancelled: (() => void) | undefined;
  /** Called for each step, after it. */
  onStep: (() => void) | undefined;
  #stepping = false;

  override generate(request: GenerateRequest, handler: GenerateHandler): GenerateCall {
    this.generated.push(request);
    const stream = new Stream(this, request, handler);
    const { timeline, modelName } = request;
    timeline.admitted = timeline.queued = timeline.dispatched = timeline.computeStart = timeline.decoded + 1;
    timeline.firstToken = timeline.computeStart + 1;
    const [kind, code] = stream.words;
    if (modelName !== 'words') {
      stream.fail(new ServeError('NOT_FOUND', `Request for unknown model: '${modelName}' is not found`));
    } else if (kind === 'throw') throw new TypeError('secret detail of a bug');
    else if (kind === 'refuse') stream.fail(new ServeError('INVALID_ARGUMENT', stream.words.slice(1).join('').trim()));
    else if (kind === 'fail') stream.fail(new ServeError(code!.trim() as ErrorCode, 'it does not work'));
    else this.streams.add(stream);
    this.run();
    return stream;
  }

  /** Steps while a stream can. */
  run(): void {
    if (this.#stepping || ![...this.streams].some((stream) => !stream.isPaused)) return;
    this.#stepping = true;
    setImmediate(() => {
      this.#stepping = false;
      for (const stream of [...this.streams]) if (!stream.isPaused && !stream.ended) stream.step();
      this.onStep?.();
      if ([...this.streams].some(({ words }) => words[0] !== 'hold')) this.run();
    });
  }

  /** `types` echoes. */
  override infer(request: InferRequest, handler: InferHandler): Cancel {
    return super.infer(request.modelName === 'types' ? { ...request, modelName: 'echo' } : request, handler);
  }

  /** As Triton's language model backends: `text_input` in, `text_output` out, whole or in pieces. */
  override inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
    if (request.modelName !== 'words') return super.inferStream(request, handler);
    this.seen.push(request);
    const input = (name: string) => request.inputs.find((one) => one.name === name);
    const text = Buffer.from(input('text_input')!.data).toString('utf8', 4);
    const streams = request.streams === true || input('stream')?.data[0] === 1;
    const prompt = { kind: 'text', text } as const;
    const { modelName, modelVersion, deadlineMs, timeline, clientKey = '' } = request;
    const asked = { modelName, modelVersion, deadlineMs, timeline, clientKey };
    let whole = '';
    const respond = (said: string, end: GenerationEnd | undefined): void => {
      const data = new Uint8Array(new SharedArrayBuffer(4 + Buffer.byteLength(said)));
      data[0] = data.length - 4;
      data.set(Buffer.from(said), 4);
      const outputs = [{ name: 'text_output', datatype: 'BYTES', shape: [1], data } as const];
      handler.onResponse({ modelName, modelVersion: '3', id: request.id, outputs }, end !== undefined);
      data.fill(0xdd);
    };
    let call: GenerateCall | undefined;
    call = this.generate(
      { ...asked, prompt, sampling: {}, protocol: 'rest' },
      {
        onDelta({ text, end }) {
          whole += text;
          if (streams) respond(text, end);
          else {
            call?.taken(1);
            if (end) respond(whole, end);
          }
        },
        onError: (error) => handler.onError(error),
      },
    );
    if (streams) return call;
    return { cancel: () => call.cancel(), taken: () => undefined };
  }

  override modelMetadata(name: string): ModelMetadata {
    if (name !== 'words' && name !== 'types') return super.modelMetadata(name);
    const inputs =
      name === 'types'
        ? TYPES
        : [
            { name: 'text_input', datatype: 'BYTES' as const, shape: [1] },
            { name: 'stream', datatype: 'BOOL' as const, shape: [1] },
            { name: 'max_tokens', datatype: 'INT32' as const, shape: [1] },
          ];
    const outputs = [{ name: 'text_output', datatype: 'BYTES' as const, shape: [-1] }];
    return { name, versions: ['3'], platform: 'onnxruntime_onnx', inputs, outputs };
  }

  override async whenReady(name: string): Promise<void> {
    this.modelMetadata(name);
  }
}

const TYPES = [
  { name: 'longs', datatype: 'INT64', shape: [-1, -1] },
  { name: 'floats', datatype: 'FP32', shape: [-1, 4] },
  { name: 'flags', datatype: 'BOOL', shape: [2, 2] },
  { name: 'texts', datatype: 'BYTES', shape: [-1] },
  { name: 'half', datatype: 'FP16', shape: [1] },
] as const;
