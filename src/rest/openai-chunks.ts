/**
 * Generated text in OpenAI's JSON: chunks of a stream, and the whole of a reply.
 *
 * Made for each request by `openai-generation.ts`. What is the same in every chunk is printed once. Knows shapes, not how they are sent.
 */
import { randomUUID } from 'node:crypto';
import type { GeneratedDelta, GenerationEnd } from '../engine/generation-types.js';
import { chatLogprobs, isSaid, textLogprobs } from './openai-logprobs.js';
import type { OpenAiGeneration } from './openai-sampling.js';

export type OpenAiKind = 'chat' | 'text';

/** OpenAI's usage; a request's prompts are counted once each, whatever the number of their answers. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** One answer, as far as it has come. */
export interface Answer {
  readonly index: number;
  /** Text that stands before it; '' for none. */
  readonly echo: string;
  /** Whether a chunk of it has gone out. */
  begun: boolean;
  end: GenerationEnd | undefined;
}

export interface OpenAiPrinter {
  /** The events for one more delta; none where there is nothing to say yet. `usage` is undefined where events hold none. */
  chunks(answer: Answer, delta: GeneratedDelta, usage: Usage | null | undefined): string[];
  /** The event behind the last answer. */
  usageChunk(usage: Usage): string;
  /** The whole reply. */
  reply(answers: readonly Answer[], deltas: readonly (readonly GeneratedDelta[])[], usage: Usage): string;
}

export function createPrinter(kind: OpenAiKind, { model, sampling }: OpenAiGeneration): OpenAiPrinter {
  const withLogprobs = sampling.logprobs !== undefined;
  return kind === 'chat' ? new ChatPrinter(model, withLogprobs) : new TextPrinter(model, withLogprobs);
}

/** What both kinds print alike. */
class Envelope {
  readonly #model: string;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #id: string;

  constructor(prefix: string, model: string) {
    this.#id = prefix + randomUUID().replaceAll('-', '');
    this.#model = model;
  }

  /** Up to the choices. */
  head(object: string): string {
    const { length } = '{}';
    const members = { id: this.#id, object, created: this.#created, model: this.#model.toWellFormed() };
    return `${JSON.stringify(members).slice(0, 1 - length)},"choices":[`;
  }
}

/** Behind the choices. */
function tail(usage: Usage | null | undefined): string {
  return usage === undefined ? ']}' : `],"usage":${JSON.stringify(usage)}}`;
}

class ChatPrinter implements OpenAiPrinter {
  readonly #envelope: Envelope;
  readonly #head: string;
  readonly #withLogprobs: boolean;

  constructor(model: string, withLogprobs: boolean) {
    this.#envelope = new Envelope('chatcmpl-', model);
    this.#head = this.#envelope.head('chat.completion.chunk');
    this.#withLogprobs = withLogprobs;
  }

  chunks(answer: Answer, delta: GeneratedDelta, usage: Usage | null | undefined): string[] {
    const said = this.#withLogprobs && isSaid(delta);
    if (delta.text === '' && !said && delta.end === undefined) return [];
    const events: string[] = [];
    // Not before there is a token: clients take the first event for it.
    if (!answer.begun) {
      answer.begun = true;
      events.push(this.#chunk(answer.index, '{"role":"assistant","content":""}', 'null', null, usage));
    }
    if (delta.text !== '' || said) {
      const logprobs = said ? JSON.stringify(chatLogprobs([delta])) : 'null';
      events.push(this.#chunk(answer.index, `{"content":${JSON.stringify(delta.text)}}`, logprobs, null, usage));
    }
    if (delta.end) events.push(this.#chunk(answer.index, '{}', 'null', delta.end.finishReason, usage));
    return events;
  }

  #chunk(index: number, delta: string, logprobs: string, reason: string | null, usage: Usage | null | undefined) {
    const finish = reason === null ? 'null' : `"${reason}"`;
    return `${this.#head}{"index":${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish}}${tail(usage)}`;
  }

  usageChunk(usage: Usage): string {
    return this.#head + tail(usage);
  }

  reply(answers: readonly Answer[], deltas: readonly (readonly GeneratedDelta[])[], usage: Usage): string {
    const choices = answers.map(({ index, end }) => ({
      index,
      message: { role: 'assistant', content: textOf(deltas[index]!), refusal: null },
      logprobs: this.#withLogprobs ? chatLogprobs(deltas[index]!.filter(isSaid)) : null,
      finish_reason: end!.finishReason,
    }));
    const printed = choices.map((choice) => JSON.stringify(choice)).join(',');
    return this.#envelope.head('chat.completion') + printed + tail(usage);
  }
}

class TextPrinter implements OpenAiPrinter {
  readonly #head: string;
  readonly #withLogprobs: boolean;

  constructor(model: string, withLogprobs: boolean) {
    this.#head = new Envelope('cmpl-', model).head('text_completion');
    this.#withLogprobs = withLogprobs;
  }

  chunks(answer: Answer, delta: GeneratedDelta, usage: Usage | null | undefined): string[] {
    const said = this.#withLogprobs && isSaid(delta);
    if (delta.text === '' && !said && delta.end === undefined) return [];
    const logprobs = said ? textLogprobs([delta]) : null;
    const text = answer.begun ? delta.text : answer.echo + delta.text;
    answer.begun = true;
    return [this.#head + choice(answer.index, text, logprobs, delta.end) + tail(usage)];
  }

  usageChunk(usage: Usage): string {
    return this.#head + tail(usage);
  }

  reply(answers: readonly Answer[], deltas: readonly (readonly GeneratedDelta[])[], usage: Usage): string {
    const choices = answers.map(({ index, echo, end }) => {
      const own = deltas[index]!;
      const logprobs = this.#withLogprobs ? textLogprobs(own.filter(isSaid)) : null;
      return choice(index, echo + textOf(own), logprobs, end);
    });
    return this.#head + choices.join(',') + tail(usage);
  }
}

function choice(index: number, text: string, logprobs: unknown, end: GenerationEnd | undefined): string {
  return JSON.stringify({ index, text, logprobs, finish_reason: end?.finishReason ?? null });
}

function textOf(deltas: readonly GeneratedDelta[]): string {
  let text = '';
  for (const delta of deltas) text += delta.text;
  return text;
}
