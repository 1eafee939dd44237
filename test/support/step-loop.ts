/**
 * The real step loop with its ring, over a decoder of the test's choice, without a thread: what main would say is said between runs.
 *
 * Called by tests of the step loop and by the bench of what a step costs.
 */
import {
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  GAUGE,
  type RecordDetail,
  type Sampling,
  type StartStream,
} from '../../src/runtime/generation-messages.js';
import { createRing, RingReader, RingWriter } from '../../src/runtime/token-ring.js';
import type { StreamRecord } from '../../src/runtime/token-streams.js';
import type { Decoder } from '../../workers/decoder-types.js';
import { Detokenizer } from '../../workers/detokenizer.js';
import { StepLoop, type StepLoopOptions } from '../../workers/token-stream.js';

/** A special token that ends texts. */
export const END_ID = 60;

/** Token n is the text " wn"; 60 is special. */
export function wordDetokenizer(vocabularySize: number): Detokenizer {
  const vocab = Object.fromEntries(Array.from({ length: vocabularySize }, (_, id) => [`Ġw${id}`, id]));
  delete vocab[`Ġw${END_ID}`];
  const tokenizer = {
    version: '1.0',
    added_tokens: [
      {
        id: END_ID,
        content: '<|end|>',
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: null, fuse_unk: false, byte_fallback: false, vocab, merges: [] },
  };
  return Detokenizer.create(Buffer.from(JSON.stringify(tokenizer)), '{}');
}

/** The likeliest token always, no end but the length. */
export const GREEDY: Sampling = {
  maxTokens: 8,
  minTokens: 0,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: [1, 2],
  logprobs: -1,
  stop: [],
  stopTokenIds: [],
  eosTokenIds: [],
  suppressTokenIds: [],
  logitBias: [],
  skipSpecialTokens: true,
  includeStop: false,
};

/** What came of a stream. */
export interface Heard {
  readonly number: number;
  readonly tokens: number[];
  text: string;
  /** The details of all records that had one. */
  readonly details: RecordDetail[];
  /** Flags of the last record; 0 while it runs. */
  last: number;
}

export interface StartOptions {
  readonly sampling?: Partial<Sampling>;
  readonly window?: number;
  readonly clientKey?: string;
}

const LAST = FLAG_END | FLAG_FAILED | FLAG_CANCELLED;

export class LoopHarness<Model extends Decoder> {
  readonly decoder: Model;
  readonly loop: StepLoop;
  readonly gauges: Float64Array;
  /** Called between runs, before what was told is heard. */
  onBetween: () => void = () => undefined;
  readonly #reader: RingReader;
  readonly #heard = new Map<number, Heard>();
  readonly #told: (() => void)[] = [];
  readonly #ran: Promise<void>;
  #next = 0;
  #tellLoop: (() => void) | undefined;
  #idle = Promise.withResolvers<void>();

  constructor(decoder: Model, spec: Partial<StepLoopOptions['spec']> = {}, now?: () => number) {
    this.decoder = decoder;
    const maxSequences = spec.maxSequences ?? 8;
    const ring = createRing();
    this.gauges = new Float64Array(GAUGE.stepsBySize + maxSequences);
    this.#reader = new RingReader(ring, (stream, record) => this.#hear(stream, record));
    this.loop = new StepLoop({
      decoder,
      detokenizer: wordDetokenizer(decoder.vocabularySize),
      spec: {
        contextLength: 512,
        maxSequences,
        kvCacheBytes: 1e9,
        prefixCacheBytes: 0,
        prefillChunk: 64,
        ...spec,
      },
      ring: new RingWriter(ring, () => undefined),
      gauges: this.gauges,
      hear: () => {
        this.#reader.drain();
        this.onBetween();
        for (const tell of this.#told.splice(0)) tell();
      },
      message: () => this.#message(),
      ...(now && { now }),
    });
    this.#ran = this.loop.run();
  }

  start(prompt: readonly number[], { sampling, window = 1000, clientKey = 'a' }: StartOptions = {}): Heard {
    const heard: Heard = { number: this.#next++, tokens: [], text: '', details: [], last: 0 };
    this.#heard.set(heard.number, heard);
    const message: StartStream = {
      type: 'start',
      stream: heard.number,
      tokens: Int32Array.from(prompt),
      sampling: { ...GREEDY, ...sampling },
      window,
      clientKey,
    };
    this.tell(() => this.loop.start(message));
    return heard;
  }

  /** Is heard by the loop before its next run. */
  tell(what: () => void): void {
    this.#told.push(what);
    if (!this.#tellLoop) return;
    this.#idle = Promise.withResolvers();
    this.#tellLoop();
    this.#tellLoop = undefined;
  }

  /** Resolves when the loop has nothing to do. */
  async settled(): Promise<void> {
    await this.#idle.promise;
    this.#reader.drain();
  }

  async close(): Promise<void> {
    this.tell(() => this.loop.close());
    await this.#ran;
    this.#reader.drain();
  }

  gauge(name: keyof typeof GAUGE): number {
    return this.gauges[GAUGE[name]]!;
  }

  async #message(): Promise<void> {
    if (this.#told.length > 0) return;
    this.#idle.resolve();
    await new Promise<void>((resolve) => {
      this.#tellLoop = resolve;
    });
  }

  #hear(stream: number, { flags, tokenId, text, detail }: StreamRecord): void {
    const heard = this.#heard.get(stream);
    if (!heard) throw new Error(`stream ${stream} has ended and got a record with flags ${flags}`);
    if ((flags & FLAG_TOKEN) !== 0) heard.tokens.push(tokenId);
    heard.text += text;
    if (detail) heard.details.push(detail);
    if ((flags & LAST) === 0) return;
    heard.last = flags;
    this.#heard.delete(stream);
  }
}
