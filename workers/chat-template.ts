/**
 * A model's chat template: a conversation becomes the text that the model was taught to go on from.
 *
 * Called by workers/prompt.ts. @huggingface/jinja interprets the template; here it gets the names that transformers gives it and bounds on
 * its time and its text, so that a template that loops costs its request an error and the thread no more than that time.
 * Owns the parsed template, and what was found out about it.
 */
import { createContext, Script } from 'node:vm';
import { Environment, parse, tokenize } from '@huggingface/jinja';
import { invalid, printable } from '#src/base/errors';
import { CALL_PROBE, hasCalls, showsNoObject, withTextArguments } from './chat-template-calls.js';
import { formatDate } from './chat-template-date.js';
import { TemplateInterpreter, withPrints } from './chat-template-interpreter.js';
import { wantsParts, withParts } from './chat-template-parts.js';

/** Names for the template, as JSON has them: `messages`, `add_generation_prompt`, `tools`, ... */
export type TemplateNames = Readonly<Record<string, unknown>>;

export interface ChatTemplateOptions {
  /** Names beside those of the request, which come first. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Most milliseconds for one text. */
  readonly limitMs: number;
}

/** As Jinja's own sandbox has it; the numbers are made before anything is done with them. */
const RANGE_MAX = 100_000;
/** A text may have so many characters, and this many more for each one of the request: templates write what they get once or twice. */
const TEXT_MAX = 1024 * 1024;
const TEXT_PER_CHARACTER = 4;

export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #options: ChatTemplateOptions;
  /** Undefined until a conversation has calls. */
  #takesTextArguments: boolean | undefined;
  /** Undefined until the first conversation. */
  #takesParts: boolean | undefined;

  /** Throws INVALID_ARGUMENT for what is no template. */
  constructor(source: string, options: ChatTemplateOptions) {
    this.#options = options;
    try {
      this.#program = withPrints(parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })));
    } catch (error) {
      throw invalid(`chat_template can't be used: ${printable(messageOf(error), 200)}`);
    }
  }

  /** `characters`: how long the request was. Throws INVALID_ARGUMENT with what the template says, or what is wrong with it. */
  render(names: TemplateNames, characters: number): string {
    const { limitMs } = this.#options;
    let text: string;
    try {
      text = withinMs(limitMs, () => this.#run(this.#asTaken(names)));
    } catch (error) {
      if (error instanceof Refusal) throw invalid(`the chat template refused: ${printable(error.message, 200)}`);
      if (isTimeout(error)) throw invalid(`the chat template did not end within ${limitMs} ms`);
      throw invalid(`the chat template failed: ${printable(messageOf(error), 200)}`);
    }
    const most = TEXT_MAX + TEXT_PER_CHARACTER * characters;
    if (text.length > most)
      throw invalid(`the chat template made ${text.length} characters of the request, more than ${most}`);
    return text;
  }

  /** Messages in the form that this template takes. */
  #asTaken(names: TemplateNames): TemplateNames {
    this.#takesParts ??= wantsParts((probe) => this.#run(probe));
    const read = this.#takesParts ? withParts(names) : names;
    if (!hasCalls(read)) return read;
    this.#takesTextArguments ??= this.#triesText();
    return this.#takesTextArguments ? withTextArguments(read) : read;
  }

  #triesText(): boolean {
    try {
      return showsNoObject(this.#run(this.#takesParts ? withParts(CALL_PROBE) : CALL_PROBE));
    } catch {
      // It takes no calls, or not such ones; the conversation itself will say why.
      return false;
    }
  }

  #run(names: TemplateNames): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...GLOBALS, ...this.#options.tokens, ...names })) {
      // The package does not take a name twice, and has one of its own there.
      environment.variables.delete(name);
      environment.set(name, value);
    }
    const { value } = new TemplateInterpreter(environment).run(this.#program);
    return String(value);
  }
}

/** What `raise_exception` throws: the template's own words. */
class Refusal extends Error {}

/** Names that transformers gives every template. */
const GLOBALS: TemplateNames = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  raise_exception: (message: unknown) => {
    throw new Refusal(String(message));
  },
  strftime_now: (format: unknown) => formatDate(new Date(), String(format)),
};

function range(first: unknown, second?: unknown, third: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (![start, stop, third].every(Number.isInteger) || third === 0)
    throw new Error('range() takes integers, and a step that is not 0');
  const step = third as number;
  const count = Math.max(0, Math.ceil(((stop as number) - (start as number)) / step));
  if (count > RANGE_MAX) throw new Error(`range() of ${count} numbers, more than ${RANGE_MAX}`);
  return Array.from({ length: count }, (_, i) => (start as number) + i * step);
}

interface Work {
  run: (() => string) | undefined;
}

/** Made when the first template of this thread is to be run. */
let watched: { readonly work: Work; readonly script: Script } | undefined;

/** Runs `work`; what still runs after `ms` is ended from outside: node:vm is the only way to stop code that does not stop by itself. */
function withinMs(ms: number, work: () => string): string {
  watched ??= { work: createContext({ run: undefined }) as Work, script: new Script('run()') };
  const { work: context, script } = watched;
  context.run = work;
  try {
    return script.runInContext(context, { timeout: ms }) as string;
  } finally {
    context.run = undefined;
  }
}

const isTimeout = (error: unknown): boolean =>
  (error as { code?: unknown } | null)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';

/** Also of errors from the other side of node:vm, which are no instances of this side's Error. */
const messageOf = (error: unknown): string => String((error as { message?: unknown } | null)?.message ?? error);
