/** Which models generate text: by their folders' files first, then by their graphs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { decoderFilename, mayGenerate, recognise } from '../../src/engine/huggingface-decoder.js';
import { HubFiles } from '../../src/engine/huggingface-files.js';
import { temporaryDirectory } from '../support/engine.js';

function folder(files: Readonly<Record<string, unknown>>): HubFiles {
  const directory = temporaryDirectory();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), JSON.stringify(content));
  return new HubFiles({ name: 'm', directory, versions: [1] }, join(directory, 'model.onnx'));
}

const TOKENIZER = { 'tokenizer.json': {} };

const FOLDERS: readonly (readonly [string, Readonly<Record<string, unknown>>, boolean])[] = [
  ['of a causal language model', { 'config.json': { architectures: ['LlamaForCausalLM'] } }, true],
  ['of GPT-2', { 'config.json': { architectures: ['GPT2LMHeadModel'] } }, true],
  ['of Gemma 3 with pictures', { 'config.json': { architectures: ['Gemma3ForConditionalGeneration'] } }, true],
  ['with a generation_config.json', { 'config.json': {}, 'generation_config.json': {} }, true],
  ['with a genai_config.json alone', { 'genai_config.json': {} }, true],
  ['with a vocabulary and no class', { 'config.json': { vocab_size: 10 }, ...TOKENIZER }, true],
  ['of BERT', { 'config.json': { architectures: ['BertModel'], vocab_size: 10 }, ...TOKENIZER }, false],
  ['of a vision transformer', { 'config.json': { architectures: ['ViTForImageClassification'] } }, false],
  ['without files', {}, false],
];

for (const [what, files, expected] of FOLDERS) {
  test(`the graph in a folder ${what} is ${expected ? '' : 'not '}looked at`, async () => {
    expect(await mayGenerate(folder(files))).toBe(expected);
  });
}

const scan = (inputs: string[], outputs: string[] = ['logits', 'present.0.key', 'present.0.value']) => ({
  externalData: [],
  inputs,
  outputs,
});
const PLAIN = ['input_ids', 'attention_mask', 'past_key_values.0.key', 'past_key_values.0.value'];

test('a graph with past and logits generates text, whatever else it takes', async () => {
  const files = folder(TOKENIZER);
  const yes = { generates: true, problem: '' };
  expect(await recognise(files, scan(PLAIN))).toEqual(yes);
  expect(await recognise(files, scan([...PLAIN, 'position_ids', 'num_logits_to_keep', 'use_cache_branch']))).toEqual(
    yes,
  );
  expect(await recognise(files, scan(['input_ids', 'past_conv.0', 'past_ssm.0']))).toEqual(yes);
  // Too large to be looked through.
  expect(await recognise(files, { externalData: [], inputs: undefined, outputs: undefined })).toEqual(yes);
});

test('a graph whose tensors have the names of genai_config.json generates text', async () => {
  const decoder = {
    filename: 'part/decoder.onnx',
    inputs: { input_ids: 'ids', past_key_names: 'k_in.%d', past_value_names: 'v_in.%d' },
    outputs: { logits: 'scores' },
  };
  const files = folder({ ...TOKENIZER, 'genai_config.json': { model: { decoder } } });
  expect(await decoderFilename(files)).toBe('part/decoder.onnx');
  expect((await recognise(files, scan(['ids', 'k_in.0', 'v_in.0'], ['scores']))).generates).toBe(true);
  expect((await recognise(files, scan(['ids', 'k_in.x', 'v_in.x'], ['scores']))).generates).toBe(false);
});

test('a graph without past, or without logits, is an ordinary one, and it is said what it lacks', async () => {
  const no = (problem: string) => ({ generates: false, problem });
  expect(await recognise(folder(TOKENIZER), scan(['input_ids', 'attention_mask'], ['logits']))).toEqual(
    no('it takes no past: export it with its cache of keys and values'),
  );
  expect(await recognise(folder(TOKENIZER), scan(PLAIN, ['last_hidden_state']))).toEqual(
    no("it has no output 'logits'"),
  );
  // A decoder with an encoder, an encoder, a model of pictures.
  const others = [['input_ids', 'encoder_hidden_states'], ['input_ids'], ['pixel_values']];
  const outputs = [['logits'], ['last_hidden_state'], ['logits']];
  for (const [i, inputs] of others.entries()) {
    expect(await recognise(folder(TOKENIZER), scan(inputs, outputs[i]!))).toEqual(no(''));
  }
});

test('a decoder that can not be asked for text is an ordinary model, and it is said why', async () => {
  const problem = async (files: HubFiles, inputs: string[]) => {
    const found = await recognise(files, scan(inputs));
    expect(found.generates).toBe(false);
    return found.problem;
  };
  expect(await problem(folder({}), PLAIN)).toBe('its folder has no tokenizer.json');
  expect(await problem(folder(TOKENIZER), [...PLAIN, 'encoder_hidden_states'])).toContain('what an encoder gives');
  expect(await problem(folder(TOKENIZER), ['input_ids', 'past_key_values.0.encoder.key'])).toContain('an encoder');
  expect(await problem(folder(TOKENIZER), ['inputs_embeds', 'past_key_values.0.key'])).toContain(
    "takes 'inputs_embeds' in place of tokens",
  );
  expect(await problem(folder(TOKENIZER), ['tokens', 'past_key_values.0.key'])).toBe("it has no input 'input_ids'");
});
