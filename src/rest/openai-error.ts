/**
 * Errors as OpenAI's clients read them: `{"error":{"message","type","param","code"}}` on every path below /v1.
 *
 * Called by what answers with an error in `rest/`, whatever made it: routes, the body reader, the router, a server that stops. The
 * statuses are those of `status.ts`, since the clients choose their exception by the status alone.
 */
import { ServeError } from '../base/errors.js';
import { errorBody, HttpError, statusOf } from './status.js';

/** A refusal that names the member of the request, or has a code of OpenAI's. */
export class OpenAiError extends HttpError {
  readonly param: string | null;
  readonly code: string | null;

  constructor(
    status: number,
    message: string,
    more: { param?: string; code?: string; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(status, message, more.headers);
    this.param = more.param ?? null;
    this.code = more.code ?? null;
  }
}

/** A request member with a value that can't be served. */
export function invalidMember(param: string, message: string): OpenAiError {
  return new OpenAiError(400, message, { param });
}

/** Members that the engine's refusals begin with. */
const ENGINE_MEMBERS = new Set(
  (
    'max_tokens min_tokens temperature top_k top_p min_p repetition_penalty presence_penalty frequency_penalty logprobs seed stop ' +
    'stop_token_ids logit_bias'
  ).split(' '),
);

/** What refusals of the prompt are about. */
const PROMPT_SUBJECTS = new Set(['prompt', 'conversation', 'message', 'template', 'token']);

/** A refusal of the engine with the member that it is about, where that can be told; `promptMember` is what the prompt came in. */
export function blameMember(error: ServeError, promptMember: string): ServeError | OpenAiError {
  if (error.code !== 'INVALID_ARGUMENT') return error;
  const { message } = error;
  const subject = /^(?:the )?(?:chat )?([a-z_]+)/.exec(message)?.[1] ?? '';
  if (ENGINE_MEMBERS.has(subject)) return invalidMember(subject, message);
  if (subject === 'model') return invalidMember('model', message);
  if (!PROMPT_SUBJECTS.has(subject)) return error;
  return new OpenAiError(400, message, { param: promptMember, ...codeOfLength(message) });
}

/** Clients cut their conversations when they are told this. */
function codeOfLength(message: string): { code?: string } {
  if (/ in its context of \d+ tokens/.test(message)) return { code: 'context_length_exceeded' };
  return / bytes, at most \d+ are taken/.test(message) ? { code: 'string_above_max_length' } : {};
}

const OPENAI_PATH = /^(?:https?:\/\/[^/?#]*)?\/v1(?:[/?#]|$)/i;

/** The body of an error reply to a request for `url`, in the form that the clients of that path read. */
export function errorBodyFor(url: string | undefined, error: ServeError | HttpError): string {
  return OPENAI_PATH.test(url ?? '') ? openAiErrorBody(error) : errorBody(error.message);
}

/** Codes that OpenAI has for a status, or that say more than it. */
const CODES: Readonly<Record<number, string>> = {
  404: 'unknown_url',
  405: 'method_not_supported',
  413: 'request_too_large',
  429: 'rate_limit_exceeded',
  501: 'not_supported',
  503: 'service_unavailable',
  504: 'deadline_exceeded',
};

function openAiErrorBody(error: ServeError | HttpError): string {
  const status = statusOf(error);
  // What the engine does not find is a model or a version of one.
  const unknownModel = error instanceof ServeError && error.code === 'NOT_FOUND';
  const own = error instanceof OpenAiError ? error : undefined;
  const code = unknownModel ? 'model_not_found' : (own?.code ?? CODES[status] ?? null);
  const param = unknownModel ? 'model' : (own?.param ?? null);
  return JSON.stringify({ error: { message: error.message.toWellFormed(), type: typeOf(status), param, code } });
}

function typeOf(status: number): string {
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}
