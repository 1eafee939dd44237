/**
 * The messages of a conversation, made what chat templates expect: content as one text, roles that they know, arguments as objects.
 *
 * Called by `openai-chat.ts`. Members that it does not know go on as they came: the template may.
 */
import { printable } from '../base/errors.js';
import { isJsonObject, parseJsonDocument } from '../base/json-document.js';
import type { JsonObject } from '../base/tensor-json.js';
import { invalidMember } from './openai-error.js';
import { kindOf, type Members } from './openai-members.js';

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'];

/** Throws 400 that names the message. */
export function takeMessages(members: Members): JsonObject[] {
  const messages = members.array('messages');
  if (messages === undefined) throw invalidMember('messages', "'messages' is missing: send a conversation");
  if (messages.length === 0) throw invalidMember('messages', "'messages' is an empty array, send at least one message");
  return messages.map((message, index) => readMessage(message, `messages[${index}]`));
}

function readMessage(message: unknown, name: string): JsonObject {
  if (!isJsonObject(message)) throw invalidMember(name, `'${name}' must be an object, got ${kindOf(message)}`);
  const { role } = message;
  if (typeof role !== 'string' || !ROLES.includes(role)) {
    const got = kindOf(role ?? null);
    throw invalidMember(`${name}.role`, `'${name}.role' must be one of ${ROLES.join(', ')}, got ${got}`);
  }
  const calls = role === 'assistant' ? message.tool_calls : undefined;
  if (role === 'assistant') refuseAudio(message, name);
  const content = readContent(message.content ?? undefined, `${name}.content`, role);
  const known = withoutNothing(message);
  // What OpenAI calls developer now, models know as system.
  known.role = role === 'developer' ? 'system' : role;
  known.content = content;
  if (Array.isArray(calls) && calls.length > 0) known.tool_calls = calls.map(readToolCall);
  return known;
}

/**
 * Answers that clients send back say null for all that they do not have, some an empty list of calls. Templates ask whether a member is
 * there, Llama's `'tool_calls' in message` say, so that it would count as a call.
 */
function withoutNothing(message: JsonObject): Record<string, unknown> {
  const isThere = ([name, value]: [string, unknown]) =>
    value !== null && !(name === 'tool_calls' && Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(message).filter(isThere));
}

function refuseAudio({ audio }: JsonObject, name: string): void {
  if (audio == null) return;
  throw invalidMember(`${name}.audio`, `'${name}.audio' is not supported: models of this server read text`);
}

function readContent(content: unknown, name: string, role: string): string {
  if (typeof content === 'string') return content;
  // An assistant that called tools said nothing. Templates do to content what texts bear, `trim` say, and null does not.
  if (content === undefined && role === 'assistant') return '';
  if (!Array.isArray(content)) {
    const got = kindOf(content ?? null);
    throw invalidMember(name, `'${name}' must be a string or an array of text parts, got ${got}`);
  }
  return content.map((part: unknown, index) => readPart(part, `${name}[${index}]`)).join('\n');
}

function readPart(part: unknown, name: string): string {
  if (!isJsonObject(part)) throw invalidMember(name, `'${name}' must be an object, got ${kindOf(part)}`);
  const { type } = part;
  const text = type === 'text' ? part.text : type === 'refusal' ? part.refusal : undefined;
  if (typeof text === 'string') return text;
  if (type === 'text') throw invalidMember(name, `'${name}.text' must be a string`);
  const kind = typeof type === 'string' ? `'${printable(type)}'` : kindOf(type ?? null);
  throw invalidMember(name, `'${name}' has type ${kind}, which is not supported: models of this server read text`);
}

/** OpenAI has arguments as JSON in a string, templates print them as objects. */
function readToolCall(call: unknown): unknown {
  if (!isJsonObject(call) || !isJsonObject(call.function)) return call;
  const { arguments: text } = call.function;
  if (typeof text !== 'string') return call;
  const parsed = parsedArguments(text);
  return parsed === undefined ? call : { ...call, function: { ...call.function, arguments: parsed } };
}

/** Undefined for what is no object: models write whatever they like there. */
function parsedArguments(text: string): JsonObject | undefined {
  try {
    const value = parseJsonDocument(Buffer.from(text));
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
