/** Triton's generate extension: what becomes of the members of a body, and of the engine's responses. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type FrontEnd, startFrontEnd } from './front-end.js';
import { TokenEngine } from './token-engine.js';

const engine = new TokenEngine();
let front: FrontEnd;
beforeAll(async () => {
  front = await startFrontEnd({ engine });
});
afterAll(() => front.close());
afterEach(() => {
  expect(engine.streams.size).toBe(0);
  expect(front.budget.used).toBe(0);
  engine.seen.length = engine.generated.length = front.finished.length = engine.cancelled = engine.taken = 0;
  engine.onCancelled = engine.onStep = undefined;
});

const post = (path: string, body: unknown) =>
  front.post(`/v2/models/${path}`, typeof body === 'string' ? body : JSON.stringify(body));

async function eventsOf(response: Response): Promise<unknown[]> {
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const parts = (await response.text()).split('\n\n');
  expect(parts.pop()).toBe('');
  return parts.map((part) => {
    expect(part).toMatch(/^data: [^\n]*$/);
    return JSON.parse(part.slice(6));
  });
}

const named = { model_name: 'words', model_version: '3' };

describe('generate', () => {
  test('answers with the outputs as members of one object', async () => {
    const response = await post('words/generate', { text_input: 'a small house', id: 'my "id"' });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(response.headers.get('server-timing')).toMatch(/compute;dur=\d.*total;dur=\d/);
    expect(await response.json()).toEqual({ id: 'my "id"', ...named, text_output: 'a small house' });
    expect(engine.seen[0]).toMatchObject({
      modelName: 'words',
      modelVersion: '',
      id: 'my "id"',
      outputs: [],
      arm: 'rest_json',
      wholeText: true,
      clientKey: '127.0.0.1',
      deadlineMs: Infinity,
      inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
    });
    expect(engine.seen[0]!.streams).toBeUndefined();
    expect(front.finished).toEqual([{ arm: 'rest_json', modelName: 'words', status: 200 }]);
  });

  test('takes a version, and makes all other scalars parameters', async () => {
    const body = `{"text_input":["x"],"max_tokens":5,"temperature":0.5,"stop":"end","flag":true,"long":9007199254740993,
      "parameters":{"inner":1,"flag":false}}`;
    const response = await post('words/versions/3/generate', body);
    expect(await response.json()).toEqual({ model_name: 'words', model_version: '3', text_output: 'x' });
    const [{ inputs, parameters, modelVersion }] = engine.seen as [(typeof engine.seen)[0]];
    expect(modelVersion).toBe('3');
    expect(inputs.map(({ name, datatype, shape }) => [name, datatype, shape])).toEqual([
      ['text_input', 'BYTES', [1]],
      ['max_tokens', 'INT32', [1]],
    ]);
    expect([...parameters]).toEqual([
      ['temperature', 0.5],
      ['stop', 'end'],
      ['flag', false],
      ['long', 9_007_199_254_740_993n],
      ['inner', 1],
    ]);
  });

  test('refuses a request that streams, with the words that clients look for', async () => {
    const response = await post('words/generate', { text_input: 'a b c', stream: true });
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({
      error:
        'generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses',
    });
    expect(engine.cancelled).toBe(1);
  });

  test('gives an ordinary model its tensors, exact and in its shapes, and its outputs back', async () => {
    const body = `{"longs":[9223372036854775807,-9223372036854775808,3],"floats":[1,2.5,-3,1e3,5,6,7,8],
      "flags":[true,false,true,true],"texts":["a","\\u00e9\\n"]}`;
    const response = await post('types/generate', body);
    expect(response.status).toBe(200);
    expect(engine.seen[0]!.inputs.map(({ name, datatype, shape }) => [name, datatype, shape])).toEqual([
      ['longs', 'INT64', [1, 3]],
      ['floats', 'FP32', [2, 4]],
      ['flags', 'BOOL', [2, 2]],
      ['texts', 'BYTES', [2]],
    ]);
    expect(await response.text()).toBe(
      '{"model_name":"echo","model_version":"3","OUTPUT0":[9223372036854775807,-9223372036854775808,3],' +
        '"OUTPUT1":[1,2.5,-3,1000,5,6,7,8],"OUTPUT2":[true,false,true,true],"OUTPUT3":["a","é\\u000a"]}',
    );
  });

  test('unwraps what has one element', async () => {
    const response = await post('types/generate', '{"longs":-7,"texts":"x"}');
    expect(await response.json()).toEqual({ model_name: 'echo', model_version: '3', OUTPUT0: -7, OUTPUT1: 'x' });
    expect(engine.seen[0]!.inputs.map(({ shape }) => shape)).toEqual([[1, 1], [1]]);
  });

  test.each([
    ['a nested input', '{"text_input":{"a":"b"}}', "input 'text_input' must be a scalar or an array of scalars"],
    ['an array in an array', '{"text_input":[["b"]]}', "input 'text_input' must be a scalar or an array of scalars"],
    ['a number for text', '{"text_input":7}', "'7' is not a string"],
    ['a number as a string', '{"max_tokens":"7"}', 'is not a number'],
    ['NaN for an integer', '{"max_tokens":NaN}', 'is not a number'],
    ['a number out of range', '{"max_tokens":4294967296}', 'out of range'],
    [
      'too many elements',
      '{"text_input":["a","b"]}',
      "The schema can not convert input 'text_input' to tensor with proper shape",
    ],
    ['no elements', '{"text_input":[]}', "The schema can not convert input 'text_input' to tensor with proper shape"],
    ['parameters that are no object', '{"parameters":[1]}', "expected an object for 'parameters'"],
    ["a parameter of Triton's", '{"triton_x":1}', "parameter keys starting with 'triton_' are reserved"],
    ['an array', '[]', 'expected an object'],
    ['text behind', '{} {}', 'text after the request'],
    ['a bomb of depth', `{"text_input":${'['.repeat(100_000)}`, 'must be a scalar'],
    [
      'a bomb of parameters',
      `{${Array.from({ length: 200 }, (_, i) => `"p${i}":1`).join()}}`,
      'more than 128 parameters',
    ],
  ])('refuses %s', async (_name, body, message) => {
    for (const route of ['words/generate', 'words/generate_stream']) {
      const response = await post(route, body);
      expect(response.status).toBe(400);
      expect(response.headers.get('content-type')).toBe('application/json');
      expect(((await response.json()) as { error: string }).error).toContain(message);
    }
    expect(engine.seen).toEqual([]);
  });

  test.each([
    [
      'a nested parameter',
      '{"more":{"a":1}}',
      "parameter 'more' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ],
    [
      'an array that is no input',
      '{"more":[1]}',
      "parameter 'more' has invalid type. It should be either 'int', 'bool', or 'string'.",
    ],
    ['null', '{"more":null}', "parameter 'more' has invalid type"],
  ])('of a model that is no language model refuses %s', async (_name, body, message) => {
    const { error } = (await (await post('types/generate', body)).json()) as { error: string };
    expect(error).toContain(message);
  });

  test('gives lists and objects of parameters to a model that generates text as JSON, and passes over null', async () => {
    const body = `{"text_input":"x","stop":["a", "b"],"seed":null,"max_tokens":null,
      "parameters":{"logit_bias":{"7":-1},"top_k":null,"top_p":0.5}}`;
    expect((await post('words/generate', body)).status).toBe(200);
    const [{ inputs, parameters }] = engine.seen as [(typeof engine.seen)[0]];
    expect(inputs.map(({ name }) => name)).toEqual(['text_input']);
    expect([...parameters]).toEqual([
      ['stop', '["a", "b"]'],
      ['logit_bias', '{"7":-1}'],
      ['top_p', 0.5],
    ]);
  });

  test('gives sampling_parameters to a model that generates text as a tensor, whether they are an object or a text', async () => {
    const asObject = '{"text_input":"x","sampling_parameters":{"top_p": 0.5, "stop":["ä"]}}';
    expect((await post('words/generate', asObject)).status).toBe(200);
    const [{ inputs, parameters }] = engine.seen as [(typeof engine.seen)[0]];
    const [, sampling] = inputs as [unknown, (typeof inputs)[0]];
    expect(sampling).toMatchObject({ name: 'sampling_parameters', datatype: 'BYTES', shape: [1] });
    const text = '{"top_p": 0.5, "stop":["ä"]}';
    expect(Buffer.from(sampling.data).readUInt32LE()).toBe(Buffer.byteLength(text));
    expect(Buffer.from(sampling.data).toString('utf8', 4)).toBe(text);
    expect([...parameters]).toEqual([]);
    const { error } = (await (await post('types/generate', '{"sampling_parameters":{}}')).json()) as { error: string };
    expect(error).toContain("parameter 'sampling_parameters' has invalid type");
  });

  test('names the member whose value is of another type', async () => {
    const refused = async (body: string) =>
      ((await (await post('words/generate', body)).json()) as { error: string }).error;
    expect(await refused('{"text_input":7}')).toBe("input 'text_input': '7' is not a string");
    expect(await refused('{"text_input":"x","max_tokens":"7"}')).toBe("input 'max_tokens': '\"7\"' is not a number");
    expect(await refused(`{"text_input":"x","stop":["${'x'.repeat(70_000)}"]}`)).toMatch(
      /^parameter 'stop' has \d+ bytes/,
    );
  });

  test.each([
    ['five elements for rows of four', '{"floats":[1,2,3,4,5]}'],
    ['three elements for a square of two', '{"flags":[true,true,true]}'],
  ])('refuses %s', async (_name, body) => {
    const { error } = (await (await post('types/generate', body)).json()) as { error: string };
    expect(error).toContain('The schema can not convert input');
  });

  test('refuses half floats, invalid UTF-8, large bodies, and models that are not there', async () => {
    const half = await post('types/generate', '{"half":1}');
    expect(half.status).toBe(400);
    expect(await half.text()).toContain('receiving FP16 data via JSON is not supported');
    const bytes = Uint8Array.from(Buffer.from('{"text_input":"\u00ff"}', 'latin1'));
    expect((await front.post('/v2/models/words/generate', bytes)).status).toBe(400);
    const large = await post('words/generate', { text_input: 'x'.repeat(1024 * 1024) });
    expect(large.status).toBe(413);
    expect(await large.text()).toContain('maximum allowed input size of 1048576 bytes. Send large tensors to infer.');
    expect((await post('none/generate', {})).status).toBe(404);
    expect((await post('none/generate_stream', {})).status).toBe(404);
  });

  test('answers with the status of the failure', async () => {
    expect((await post('words/generate', { text_input: 'fail UNAVAILABLE' })).status).toBe(503);
    expect((await post('words/generate', { text_input: 'late INTERNAL' })).status).toBe(500);
    expect((await post('words/generate', { text_input: 'throw' })).status).toBe(500);
  });

  test('cancels what nobody waits for any more', async () => {
    const aborter = new AbortController();
    const seen = new Promise<void>((resolve) => {
      engine.onStep = resolve;
    });
    const body = '{"text_input":"hold"}';
    const asking = fetch(`${front.url}/v2/models/words/generate`, { method: 'POST', body, signal: aborter.signal });
    await seen;
    const cancelled = new Promise<void>((resolve) => {
      engine.onCancelled = resolve;
    });
    aborter.abort();
    await asking.catch(() => undefined);
    await cancelled;
  });
});

describe('generate_stream', () => {
  test('gives an event for each response, and no mark at the end', async () => {
    const events = await eventsOf(await post('words/generate_stream', { text_input: 'a small house', id: '7' }));
    expect(events).toEqual(['a', ' small', ' house', ''].map((text_output) => ({ id: '7', ...named, text_output })));
    expect(engine.seen[0]).toMatchObject({ streams: true });
    expect(engine.seen[0]!.wholeText).toBeUndefined();
    expect(engine.taken).toBe(4);
  });

  test('gives one event for a model that answers once', async () => {
    const events = await eventsOf(await post('types/generate_stream', { longs: [1, 2] }));
    expect(events).toEqual([{ model_name: 'echo', model_version: '3', OUTPUT0: [1, 2] }]);
  });

  test('answers plainly where the first outcome is an error, and with an event where it is a later one', async () => {
    const early = await post('words/generate_stream', { text_input: 'fail UNAVAILABLE' });
    expect(early.status).toBe(503);
    expect(await early.json()).toEqual({ error: 'it does not work' });
    const late = await eventsOf(await post('words/generate_stream', { text_input: 'late UNAVAILABLE' }));
    expect(late.map((event) => Object.keys(event as object).at(-1))).toEqual(['text_output', 'text_output', 'error']);
    expect(late.at(-1)).toEqual({ error: 'it broke' });
    const fault = await post('words/generate_stream', { text_input: 'throw' });
    expect(fault.status).toBe(500);
    expect(await fault.text()).not.toContain('secret');
  });

  test('cancels when its client goes', async () => {
    const cancelled = new Promise<void>((resolve) => {
      engine.onCancelled = resolve;
    });
    const response = await post('words/generate_stream', { text_input: 'flood' });
    const reader = response.body!.getReader();
    await reader.read();
    await reader.cancel();
    await cancelled;
    expect(engine.cancelled).toBe(1);
  });
});
