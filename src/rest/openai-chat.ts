/**
 * The body of POST /v1/chat/completions: a conversation for the model's chat template.
 *
 * Called by `openai-generation.ts`, and reads the messages with `openai-messages.ts`. Tools are shown to the model; what it writes
 * about them stays text.
 */
import type { JsonObject } from '../base/tensor-json.js';
import type { Prompt, SamplingParameters } from '../engine/generation-types.js';
import { refuseFormats } from './openai-completions.js';
import { invalidMember } from './openai-error.js';
import { Members } from './openai-members.js';
import { takeMessages } from './openai-messages.js';
import {
  defined,
  ignoreBookkeeping,
  type OpenAiGeneration,
  takeDelivery,
  takeModel,
  takeSampling,
} from './openai-sampling.js';

const MAX_TOP_LOGPROBS = 20;

/** The request in `body`; throws 400 that names the member. */
export function parseChat(body: JsonObject): OpenAiGeneration {
  const members = new Members(body);
  const model = takeModel(members);
  const prompt = takeConversation(members);
  const delivery = takeDelivery(members);
  const logprobs = takeLogprobs(members);
  const oldMaxTokens = members.integer('max_tokens');
  const maxTokens = members.integer('max_completion_tokens') ?? oldMaxTokens;
  const sampling: SamplingParameters = { ...takeSampling(members), ...defined({ maxTokens, logprobs }) };
  refuseFormats(members);
  members.refuse('functions', "send 'tools'");
  members.refuse('function_call', "send 'tools' and 'tool_choice'", (value) => value === 'none' || value === 'auto');
  members.refuse('modalities', 'answers are text', (value) => Array.isArray(value) && String(value) === 'text');
  members.refuse('audio', 'answers are text');
  members.refuse('web_search_options', 'nothing is searched');
  members.refuse('continue_final_message', 'the template closes every message');
  members.refuse('echo', 'answers hold no prompt');
  members.refuse('best_of', 'all answers are given, none is chosen', (value) => value === delivery.choices);
  ignoreBookkeeping(members);
  members.finish('a chat completion');
  return { model, prompts: [{ prompt, echo: '' }], sampling, ...delivery };
}

function takeConversation(members: Members): Prompt {
  const messages = takeMessages(members);
  const addGenerationPrompt = members.boolean('add_generation_prompt');
  // The template writes the special tokens itself.
  members.refuse('add_special_tokens', 'the chat template writes them');
  // How a model is to be brought to them is its template's to know.
  const hints = defined({
    reasoning_effort: members.string('reasoning_effort'),
    verbosity: members.string('verbosity'),
  });
  const given = { ...hints, ...members.object('chat_template_kwargs') };
  const templateArguments = Object.keys(given).length > 0 ? given : undefined;
  const tools = takeTools(members);
  return { kind: 'chat', messages, ...defined({ tools, templateArguments, addGenerationPrompt }) };
}

/** The tools that the model is to know of. */
function takeTools(members: Members): readonly unknown[] | undefined {
  const tools = members.array('tools');
  const choice = members.take('tool_choice');
  if (choice !== undefined && choice !== 'none' && choice !== 'auto') {
    throw invalidMember('tool_choice', "'tool_choice' must be 'none' or 'auto': no tool can be forced on the model");
  }
  for (const [index, tool] of (tools ?? []).entries()) {
    if ((tool as { type?: unknown } | null)?.type !== 'function') {
      throw invalidMember('tools', `'tools[${index}]' must be an object of type 'function'`);
    }
  }
  return choice === 'none' || tools?.length === 0 ? undefined : tools;
}

/** How many alternatives; undefined where nothing is to be said of probabilities. */
function takeLogprobs(members: Members): number | undefined {
  const wanted = members.boolean('logprobs') ?? false;
  const top = members.integer('top_logprobs', 0, MAX_TOP_LOGPROBS);
  if (top !== undefined && top > 0 && !wanted) {
    throw invalidMember('top_logprobs', "'top_logprobs' can only be given together with 'logprobs': true");
  }
  return wanted ? (top ?? 0) : undefined;
}
