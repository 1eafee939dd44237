/** What a person is shown at start: which command for which models. */
import { expect, test } from 'vitest';
import { type BannerFacts, banner } from '../src/banner.js';

type Shown = BannerFacts['metadata'][number];

const content = { inputs: [], embeddingOutput: undefined, embeddingProblem: '', isMatryoshka: false };
const raw: Shown = {
  name: 'raw',
  versions: ['1'],
  platform: '',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
  outputs: [],
  content: { ...content, generation: undefined },
};
const stories: Shown = {
  ...raw,
  name: 'my stories',
  inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
  content: { ...content, generation: { contextLength: 8, vocabularySize: 8, chatProblem: '' } },
};

function commands(metadata: readonly Shown[], reach: Partial<BannerFacts> = { httpUrl: 'http://h' }): string[] {
  const facts = { name: 'n', version: '1', addresses: [], models: [], httpUrl: undefined, grpcTarget: undefined };
  const lines = banner({ ...facts, metadata, ...reach }).split('\n');
  return lines.slice(lines.indexOf('  none') + 1, -1);
}

test('a model that generates text is asked for text, any other for an inference', () => {
  expect(commands([stories, raw])).toEqual([
    'first inference',
    `  curl -s http://h/v2/models/raw/infer -d '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0,1]}]}'`,
    'first text',
    `  curl -sN http://h/v2/models/my%20stories/generate_stream -d '{"text_input":"Once upon a time"}'`,
  ]);
  expect(commands([raw])).toHaveLength(2);
  expect(commands([stories])).toEqual(['first text', expect.stringContaining('generate_stream')]);
});

test('without REST it is asked over gRPC', () => {
  const [title, command] = commands([stories], { grpcTarget: 'h:1' });
  expect(title).toBe('first text');
  const request = JSON.parse(/'(.*)'/.exec(command!)![1]!);
  expect(command).toMatch(/ h:1 inference\.GRPCInferenceService\/ModelStreamInfer$/);
  expect(request).toMatchObject({ model_name: 'my stories', inputs: [{ name: 'text_input', shape: [1] }] });
  expect(Buffer.from(request.raw_input_contents[0], 'base64').toString('latin1')).toBe('\x10\0\0\0Once upon a time');
});
