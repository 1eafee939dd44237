/**
 * Content of messages as a chat template wants it: most take a text, those of models that also see pictures may take nothing but parts.
 *
 * Called by chat-template.ts. Which of the two a template does, only trying shows. Pure.
 */

/** As the template gets them. */
type Names = Readonly<Record<string, unknown>>;

const TEXT = 'a text to look for';
const PROBE = { messages: [{ role: 'user', content: TEXT }], add_generation_prompt: true };

/** Whether the template that `run` runs fails with a text and writes the text of a part. */
export function wantsParts(run: (names: Names) => string): boolean {
  try {
    run(PROBE);
    return false;
  } catch {
    // One that refuses both has other reasons, which the conversation itself will tell.
  }
  try {
    return run(withParts(PROBE)).includes(TEXT);
  } catch {
    return false;
  }
}

/** `names` with each text of a message as its only part. */
export function withParts(names: Names): Names {
  const { messages } = names;
  if (!Array.isArray(messages)) return names;
  return { ...names, messages: messages.map(inParts) };
}

function inParts(message: unknown): unknown {
  const content = (message as { content?: unknown } | null)?.content;
  return typeof content === 'string' ? { ...(message as object), content: [{ type: 'text', text: content }] } : message;
}
