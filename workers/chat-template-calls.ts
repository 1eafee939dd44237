/**
 * Arguments of tool calls as a chat template wants them: most print an object as JSON, DeepSeek's put the text behind their own.
 *
 * Called by chat-template.ts. Which of the two a template does, only trying shows: @huggingface/jinja writes an object that is added to a text
 * as `[object Map]`, where Python's refuses. Pure.
 */

/** As the template gets them. */
type Names = Readonly<Record<string, unknown>>;

/** A conversation with one call, for which {@link showsNoObject} looks at what the template makes. */
export const CALL_PROBE: Names = {
  messages: [
    { role: 'user', content: 'x' },
    {
      role: 'assistant',
      content: '',
      tool_calls: [{ id: 'call00000', type: 'function', function: { name: 'f', arguments: {} } }],
    },
  ],
  add_generation_prompt: false,
};

/** Whether `text`, made of {@link CALL_PROBE}, says that the template can't print arguments that are an object. */
export function showsNoObject(text: string): boolean {
  return text.includes('[object Map]');
}

/** Whether a message has calls whose arguments are objects. */
export function hasCalls({ messages }: Names): boolean {
  return Array.isArray(messages) && messages.some((message) => callsOf(message).some(hasObject));
}

/** `names` with all arguments as JSON in a text. */
export function withTextArguments(names: Names): Names {
  const messages = (names.messages as readonly object[]).map((message) => {
    const calls = callsOf(message);
    return calls.some(hasObject) ? { ...message, tool_calls: calls.map(withText) } : message;
  });
  return { ...names, messages };
}

interface Call {
  readonly function?: { readonly arguments?: unknown } | null;
}

function callsOf(message: unknown): readonly Call[] {
  const calls = (message as { tool_calls?: unknown } | null)?.tool_calls;
  return Array.isArray(calls) ? calls : [];
}

function hasObject(call: Call | null): boolean {
  const given = call?.function?.arguments;
  return typeof given === 'object' && given !== null;
}

function withText(call: Call): Call {
  if (!hasObject(call)) return call;
  return { ...call, function: { ...call.function, arguments: JSON.stringify(call.function!.arguments) } };
}
