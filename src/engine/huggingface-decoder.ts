/**
 * Whether a model generates text: its folder has the files of one, and its graph keeps the past of a sequence and gives logits.
 *
 * Called by the loader, before it decides how to load a model. Must not read more of an ordinary model's folder than it takes to see that
 * it is one. A model that looks like a decoder and can't be asked for text here is served as an ordinary one, by its raw tensors, with the
 * reason in the log: whoever loops over it may do so. That is a decoder with an encoder beside it (translation, speech), one that takes
 * embeddings in place of tokens, and one without tokenizer.json. A model of logits without past is an ordinary one, too: each token would
 * cost as much as all before it together.
 */
import { DECODER_NAMES, type DecoderNames } from '../runtime/generation-messages.js';
import type { ModelScan } from '../runtime/messages.js';
import type { HubFiles } from './huggingface-files.js';
import { parseGenai } from './huggingface-genai.js';

export interface Recognised {
  readonly generates: boolean;
  /** Why it does not although it looks as if it could; '' where there is nothing to say. */
  readonly problem: string;
}

/** Classes of Hugging Face's library that generate text, by what their names end in. */
const GENERATORS = /(CausalLM|LMHeadModel|ForConditionalGeneration)$/;

/** Inputs of a decoder that goes on from what an encoder gives. */
const ENCODER = /^encoder_|^past.*\bencoder\b/;

/** Whether its graph has to be looked at: its files are those of a model that generates text. */
export async function mayGenerate(files: HubFiles): Promise<boolean> {
  if ((await files.has('genai_config.json')) || (await files.has('generation_config.json'))) return true;
  const config = await files.fields('config.json');
  if (!config) return false;
  if (!config.has('architectures')) return config.has('vocab_size') && (await files.has('tokenizer.json'));
  return (config.strings('architectures') ?? []).some((name) => GENERATORS.test(name));
}

/** What the graph is, for a folder of which {@link mayGenerate} said yes. */
export async function recognise(files: HubFiles, { inputs, outputs }: ModelScan): Promise<Recognised> {
  const names = await decoderNames(files);
  // A graph of more than 2 GB in one file is not looked through: the folder's word has to do.
  if (inputs === undefined || outputs === undefined)
    return { generates: await files.has('tokenizer.json'), problem: '' };
  const isPast = (name: string) =>
    /^past[_.]/.test(name) || matches(names.pastKey, name) || matches(names.pastValue, name);
  const hasPast = inputs.some(isPast);
  const hasLogits = outputs.includes(names.logits);
  if (!hasPast && !(hasLogits && inputs.includes(names.inputIds))) return { generates: false, problem: '' };
  const problem = hasPast && hasLogits ? await refusal(files, inputs, names) : lacking(hasPast, inputs, names);
  return { generates: hasPast && hasLogits && problem === '', problem };
}

/** Why a graph that has only one of past and logits is no decoder; '' where nobody would take it for one. */
function lacking(hasPast: boolean, inputs: readonly string[], { logits }: DecoderNames): string {
  if (hasPast) return `it has no output '${logits}'`;
  if (inputs.some((name) => ENCODER.test(name))) return '';
  return 'it takes no past: export it with its cache of keys and values';
}

async function refusal(files: HubFiles, inputs: readonly string[], names: DecoderNames): Promise<string> {
  if (inputs.some((name) => ENCODER.test(name)))
    return 'it goes on from what an encoder gives, and decoders without one are served';
  if (inputs.includes('inputs_embeds')) return "it takes 'inputs_embeds' in place of tokens, which other models make";
  if (!inputs.includes(names.inputIds)) return `it has no input '${names.inputIds}'`;
  if (!(await files.has('tokenizer.json'))) return 'its folder has no tokenizer.json';
  return '';
}

/** The ONNX file that genai_config.json names; undefined where there is no such configuration. */
export async function decoderFilename(files: HubFiles): Promise<string | undefined> {
  const genai = await files.fields('genai_config.json');
  return genai && parseGenai(genai).filename;
}

/** Names of the decoder's tensors: optimum's, unless genai_config.json has others. */
export async function decoderNames(files: HubFiles): Promise<DecoderNames> {
  const genai = await files.fields('genai_config.json');
  return { ...DECODER_NAMES, ...(genai && parseGenai(genai).names) };
}

function matches(template: string, name: string): boolean {
  const [before, behind] = template.split('%d') as [string, string];
  return (
    name.startsWith(before) &&
    name.endsWith(behind) &&
    /^\d+$/.test(name.slice(before.length, name.length - behind.length))
  );
}
