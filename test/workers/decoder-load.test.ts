/** What a decoder is found to be when it loads, what is refused, and how its memory is bounded. */
import { linkSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DECODER_NAMES } from '../../src/runtime/generation-messages.js';
import { loadDecoder } from '../../workers/decoder.js';
import { readPorts } from '../../workers/decoder-ports.js';
import { readValues } from '../../workers/onnx-edit.js';
import { readOnnx } from '../../workers/onnx-graph.js';
import { countedPositions } from '../../workers/onnx-positions.js';
import { tapDecoder } from '../../workers/onnx-tap.js';
import { begin, type Driven, decoderFixture, finish, prompts, specOf, step, writeDecoder } from '../support/decoder.js';
import { addSubModel, buildModel } from '../support/onnx.js';
import { type DecoderOptions, decoderModel } from '../support/onnx-decoder.js';

/** Loads `model` and expects it to be refused with a text that matches. */
async function refused(
  model: Uint8Array,
  text: RegExp,
  files: Readonly<Record<string, Uint8Array>> = {},
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-decoder-'));
  writeFileSync(join(directory, 'model.onnx'), model);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
  await expect(loadDecoder(specOf(directory))).rejects.toThrow(text);
  rmSync(directory, { recursive: true });
}

describe('a model that can not generate text is refused with the reason', () => {
  test('when it has no tokens, or no cache', async () => {
    await refused(
      addSubModel(),
      /^model can't generate text: it has no input 'input_ids'; its inputs are 'INPUT0', 'INPUT1'$/,
    );
    const value = (name: string, shape: (number | string)[]) => ({ name, datatype: 'INT64' as const, shape });
    const bare = buildModel({
      name: 'bare',
      inputs: [value('input_ids', ['batch', 'n']), value('attention_mask', ['batch', 'n'])],
      outputs: [value('logits', ['batch', 'n'])],
      nodes: [{ op: 'Add', inputs: ['input_ids', 'attention_mask'], outputs: ['logits'] }],
    });
    await refused(
      bare,
      /it has no inputs like 'past_key_values\.0\.key': export it with its cache of keys and values$/,
    );
  });

  test('when nobody knows what to feed', async () => {
    const { model } = decoderModel({ attention: 'plain', unknownInputs: ['encoder_hidden_states', 'pixel\nvalues'] });
    await refused(
      model,
      /nothing is known to feed to its inputs 'encoder_hidden_states', 'pixel[?]values': only decoders/,
    );
  });

  test('when it is no model, is missing, or its weights lie elsewhere', async () => {
    await refused(new Uint8Array(0), /not a valid ONNX model: it is empty/);
    const gone = mkdtempSync(join(tmpdir(), 'tensorwire-decoder-'));
    await expect(loadDecoder(specOf(gone))).rejects.toThrow("model file can't be read (ENOENT)");
    rmSync(gone, { recursive: true });
    const { model } = decoderModel({ attention: 'gqa', externalFile: '../weights.bin' });
    await refused(model, /external data 'weights\.bin' of the model must not use '\.\.'/);
    for (const link of [symlinkSync, linkSync]) {
      const directory = writeDecoder({ attention: 'gqa', externalFile: 'weights.bin' });
      renameSync(join(directory, 'weights.bin'), join(directory, 'elsewhere.bin'));
      link(join(directory, 'elsewhere.bin'), join(directory, 'weights.bin'));
      await expect(loadDecoder(specOf(directory))).rejects.toThrow(/of the model must not be a (symbolic|hard) link/);
      rmSync(directory, { recursive: true });
    }
  });

  test('when its execution provider is not there', async () => {
    const directory = writeDecoder({ attention: 'gqa' });
    const spec = specOf(directory);
    const options = { ...spec.options, executionProviders: ['abacus'] };
    await expect(loadDecoder({ ...spec, options })).rejects.toThrow(/execution provider 'abacus' is not part of/);
    rmSync(directory, { recursive: true });
  });
});

test('a model whose state can not be laid out in rows says why', async () => {
  const convolution = await decoderFixture({ attention: 'plain', convolution: true });
  expect(convolution.decoder.notes).toEqual([
    "sequences run one at a time: its state 'past_conv.0' is not a key or value of attention",
  ]);
  expect(convolution.decoder.canCut).toBe(false);
  await convolution.close();
  const table = await decoderFixture({ attention: 'plain', positions: 'counted-table' });
  expect(table.decoder.notes).toEqual([
    expect.stringMatching(/^layout 'left' of keys and values is not right for this model: logits in company differ by/),
    'sequences run one at a time: it counts positions itself and has no input for them',
  ]);
  await table.close();
});

test.each([
  [{ sequence_length: 1 }, "its input 'input_ids' always has 1 token"],
  [{ total_sequence_length: 65 }, "its input 'attention_mask' always has 65 tokens"],
  [{ past_sequence_length: 64 }, "its input 'past_key_values.0.key' always has 64 tokens"],
  [{ batch_size: 2 }, "its input 'input_ids' always has 2 sequences"],
])('a model exported for %j is refused with the size', async (fixed, text) => {
  const { model } = decoderModel({ attention: 'plain', fixed });
  await refused(model, new RegExp(`^model can't generate text: ${text}: export it with sizes of batch and sequence`));
});

test('attention that would keep its window in a ring sees the same window without', async () => {
  const options = { attention: 'gqa', window: 12 } as const;
  const ring = await decoderFixture({ ...options, ring: true });
  const plain = await decoderFixture(options);
  expect([ring.decoder.layout, ring.decoder.notes]).toEqual(['right', []]);
  const all: Driven[] = [];
  for (const prompt of prompts(4)) all.push(await begin(ring.decoder, prompt, 5));
  await finish(ring.decoder, all, 40);
  for (const [i, { chosen }] of all.entries()) expect(chosen).toEqual(await plain.raw(prompts(4)[i]!, 40));
  // What it is compared with does depend on the window.
  const whole = await decoderFixture({ attention: 'gqa' });
  expect(await whole.raw(prompts(4)[3]!, 40)).not.toEqual(await plain.raw(prompts(4)[3]!, 40));
  for (const fixture of [ring, plain, whole]) await fixture.close();
});

test('the size of a head may be the configuration’s alone', async () => {
  const directory = writeDecoder({ attention: 'gqa', openSize: true });
  const decoder = await loadDecoder(specOf(directory, { headSize: 16 }));
  const whole = await decoderFixture({ attention: 'gqa' });
  expect([decoder.layout, decoder.kvBytesPerToken]).toEqual(['right', whole.decoder.kvBytesPerToken]);
  const all = [await begin(decoder, prompts(2)[0]!), await begin(decoder, prompts(2)[1]!)];
  await finish(decoder, all, 10);
  for (const [i, { chosen }] of all.entries()) expect(chosen).toEqual(await whole.raw(prompts(2)[i]!, 10));
  await decoder.release();
  await whole.close();
  await expect(loadDecoder(specOf(directory))).rejects.toThrow(
    "its input 'past_key_values.0.key' leaves the size of a head open, and no configuration names it",
  );
  rmSync(directory, { recursive: true });
});

test('a model exported for one sequence runs one at a time', async () => {
  const { decoder, raw, close } = await decoderFixture({ attention: 'plain', fixed: { batch_size: 1 } });
  expect(decoder.notes).toEqual([
    "sequences run one at a time: its state 'past_key_values.0.key' has a fixed size for batch or tokens",
  ]);
  const all = [await begin(decoder, prompts(2)[0]!), await begin(decoder, prompts(2)[1]!)];
  await finish(decoder, all, 10);
  for (const [i, { chosen }] of all.entries()) expect(chosen).toEqual(await raw(prompts(2)[i]!, 10));
  await close();
});

test('a model with a cache of a type that nobody can keep is refused with the type', async () => {
  const { model } = decoderModel({ attention: 'plain', kvType: 'FP16' });
  const values = readValues(model);
  const skeleton = readOnnx(model);
  const inputs = values.inputs.map((value) => (value.name.startsWith('past') ? { ...value, elementType: 16 } : value));
  expect(() => readPorts(skeleton, { ...values, inputs }, DECODER_NAMES)).toThrow(
    "model can't generate text: its state 'past_key_values.0.key' is of type BF16: FP32 and FP16 can be kept",
  );
});

test('a file that Git LFS has not fetched is called so', async () => {
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n';
  await refused(Buffer.from(pointer), /pointer of Git LFS, fetch the file itself with 'git lfs pull'$/);
});

test('a graph that can only run token by token reads prompts so', async () => {
  const { decoder, close } = await decoderFixture({ attention: 'plain', oneToken: true });
  const whole = await decoderFixture({ attention: 'plain' });
  expect([decoder.layout, decoder.notes.at(-1)]).toEqual([
    'alone',
    expect.stringMatching(/^prompts are read token by token: onnx runtime/),
  ]);
  const prompt = prompts(8)[7]!;
  const all = [await begin(decoder, prompt), await begin(decoder, [5], 1)];
  await finish(decoder, all, 20);
  expect(all.map(({ chosen }) => chosen)).toEqual([await whole.raw(prompt, 20), await whole.raw([5], 20)]);
  await close();
  await whole.close();
});

test('a model for which only the distance of tokens counts runs sequences together, although it has no positions', async () => {
  const { decoder, raw, close } = await decoderFixture({ attention: 'plain', positions: 'distances' });
  expect([decoder.layout, decoder.notes]).toEqual(['left', []]);
  const all: Driven[] = [];
  for (const prompt of prompts(4)) all.push(await begin(decoder, prompt, 3));
  await finish(decoder, all, 64);
  for (const [i, { chosen }] of all.entries()) expect(chosen).toEqual(await raw(prompts(4)[i]!, 64));
  await close();
});

test.each([{}, { window: 12 }])(
  'a graph with a table for no more than its context is never run past it (%j)',
  async (window) => {
    const options = { attention: 'plain', causalTable: true, contextLength: 70, ...window } as const;
    const { decoder, raw, close } = await decoderFixture(options, { contextLength: 70 });
    expect(decoder.layout).toBe('window' in window ? 'left' : 'holes');
    const long = prompts(8)[7]!;
    const all = [await begin(decoder, [4]), await begin(decoder, long, 20)];
    // The last token of a context is never fed.
    await finish(decoder, all, 70 - long.length);
    for (const [i, prompt] of [[4], long].entries())
      expect(all[i]!.chosen).toEqual(await raw(prompt, 70 - long.length));
    await close();
  },
);

describe('a graph that rotates otherwise where a run has more tokens than so many', () => {
  const options = { attention: 'gqa', shortRotation: 40 } as const;

  test('does so for all sequences when the context is longer', async () => {
    const { decoder, raw, close } = await decoderFixture(options);
    expect(decoder.notes).toEqual([
      'past 40 tokens its graph rotates otherwise, for all sequences of a step: it always does, unless max_sequence_length is at most 40',
    ]);
    // Prompts that are longer already give the same in one run and in several, and in company.
    const long = [0, 1].map((i) => Array.from({ length: 50 + i }, (_, at) => (at * 7 + i) % 96));
    const all = [await begin(decoder, [3]), await begin(decoder, long[0]!), await begin(decoder, long[1]!, 9)];
    await finish(decoder, all, 30);
    for (const [i, prompt] of long.entries()) expect(all[i + 1]!.chosen).toEqual(await raw(prompt, 30));
    const short = await begin(decoder, [3]);
    await finish(decoder, [short], 30);
    expect(all[0]!.chosen).toEqual(short.chosen);
    await close();
  });

  test.each([{ contextLength: 40 }, { kvCacheBytes: 40 * 512 }])('never does with %j', async (changes) => {
    const { decoder, raw, close } = await decoderFixture(options, changes);
    expect(decoder.notes).toEqual([]);
    const all = [await begin(decoder, [3]), await begin(decoder, [3, 1, 4, 1, 5])];
    await finish(decoder, all, 30);
    expect(all.map(({ chosen }) => chosen)).toEqual([await raw([3], 30), await raw([3, 1, 4, 1, 5], 30)]);
    await close();
  });
});

test.each([
  { where: 'in its graph', roundedHead: true as const },
  { where: 'in branches of its graph', roundedHead: 'in branches' as const },
])(
  'a model that rounds all rows of a run together $where runs them together, and says what that means',
  async ({ roundedHead }) => {
    const { decoder, raw, close } = await decoderFixture({ attention: 'plain', roundedHead });
    expect(decoder.layout).toBe('holes');
    expect(decoder.notes).toEqual([
      'activations are rounded to 8 bits for all sequences of a step together: the text of one depends on the others',
    ]);
    // Of one token as its prompt, so that no run has more than the plain loop's.
    const alone = await begin(decoder, [5]);
    await finish(decoder, [alone], 30);
    expect(alone.chosen).toEqual(await raw([5], 30));
    await close();
  },
);

test('a layout that gives other tokens in company is not used', async () => {
  // The window is not told: holes between a row and its new token count as distance.
  const { decoder, raw, close } = await decoderFixture({ attention: 'plain', window: 12 });
  expect(decoder.layout).toBe('left');
  expect(decoder.notes).toHaveLength(1);
  expect(decoder.notes[0]).toMatch(
    /^layout 'holes' of keys and values is not right for this model: logits in company differ by/,
  );
  const all = [await begin(decoder, prompts(2)[0]!), await begin(decoder, prompts(2)[1]!)];
  await finish(decoder, all, 30);
  for (const [i, { chosen }] of all.entries()) expect(chosen).toEqual(await raw(prompts(2)[i]!, 30));
  await close();
});

test('names of the graph can be others, layers by template', async () => {
  const { model } = decoderModel({ attention: 'plain' });
  /** Of the same length, so that the file stays whole. */
  const rename = (from: string, to: string): void => {
    for (let at = model.indexOf(from); at >= 0; at = model.indexOf(from, at)) model.write(to, at);
  };
  for (const layer of [0, 1]) {
    rename(`past_key_values.${layer}.key`, `cached.of.layer.${layer}.key`);
    rename(`past_key_values.${layer}.value`, `cached.of.layer.${layer}.other`);
    rename(`present.${layer}.key`, `updated.${layer}.key`);
    rename(`present.${layer}.value`, `updated.${layer}.other`);
  }
  rename('logits', 'scores');
  const names = {
    ...DECODER_NAMES,
    logits: 'scores',
    pastKey: 'cached.of.layer.%d.key',
    pastValue: 'cached.of.layer.%d.other',
    presentKey: 'updated.%d.key',
    presentValue: 'updated.%d.other',
  };
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-decoder-'));
  writeFileSync(join(directory, 'model.onnx'), model);
  const decoder = await loadDecoder(specOf(directory, { names }));
  expect([decoder.layout, decoder.vocabularySize]).toEqual(['holes', 96]);
  await decoder.release();
  rmSync(directory, { recursive: true });
});

describe('the tap', () => {
  const tapped = (options: DecoderOptions) => {
    const { model } = decoderModel(options);
    const skeleton = readOnnx(model);
    const values = readValues(model);
    const ports = readPorts(skeleton, values, DECODER_NAMES);
    if (typeof ports.kv === 'string') throw new Error(ports.kv);
    const counted = countedPositions(skeleton);
    const tap = tapDecoder(model, skeleton, { ports, kv: ports.kv, counted, outputs: values.outputs });
    return { tap, graph: readOnnx(tap.bytes).graph, values: readValues(tap.bytes), before: skeleton };
  };

  test('takes new keys and values in one output per shape, and nothing else but logits', () => {
    const { tap, values } = tapped({ attention: 'gqa', layers: [0, 2, 5], kvHeads: [2, 1, 2] });
    expect(values.outputs.map(({ name }) => name)).toEqual(['logits', 'tensorwire_new_0', 'tensorwire_new_1']);
    expect(tap.groups.map(({ tensors }) => tensors)).toEqual([
      [0, 1, 4, 5],
      [2, 3],
    ]);
    expect([...tap.indexes.keys()]).toEqual([2, 1]);
  });

  test('needs no index where the graph joins past and new itself', () => {
    const { tap, graph } = tapped({ attention: 'plain' });
    expect(tap.indexes.size).toBe(0);
    expect(graph.nodes.some(({ op }) => op === 'GatherND')).toBe(false);
  });

  test('has the head see the last token only, unless the graph has an input for that', () => {
    expect(tapped({ attention: 'plain' }).tap.lastTokenOnly).toBe(true);
    expect(tapped({ attention: 'plain', logitsType: 'FP16' }).tap.lastTokenOnly).toBe(true);
    expect(tapped({ attention: 'plain', numLogitsToKeep: true }).tap.lastTokenOnly).toBe(false);
  });

  test('keeps every node, constant and byte that it does not change', () => {
    const { graph, before } = tapped({ attention: 'plain' });
    expect(graph.initializers).toEqual(before.graph.initializers);
    const changed = before.graph.nodes.filter((node, i) => JSON.stringify(node) !== JSON.stringify(graph.nodes[i]));
    expect(changed.map(({ op }) => op)).toEqual(['MatMul']);
  });

  test('has names that the model has not', () => {
    const { model } = decoderModel({ attention: 'plain' });
    for (let at = model.indexOf('position_ids'); at >= 0; at = model.indexOf('position_ids'))
      model.write('tensorwire_x', at);
    const skeleton = readOnnx(model);
    const values = readValues(model);
    const ports = readPorts(skeleton, values, { ...DECODER_NAMES, positionIds: 'tensorwire_x' });
    const kv = ports.kv as Exclude<typeof ports.kv, string>;
    const tap = tapDecoder(model, skeleton, { ports, kv, counted: undefined, outputs: values.outputs });
    expect(tap.groups[0]!.output).toBe('tensorwire__new_0');
  });
});

test.each([
  ['right', { attention: 'gqa' }],
  ['alone', { attention: 'plain', convolution: true }],
] as const)('memory of layout %s is counted and bounded', async (layout, options) => {
  const perToken = 2 * 2 * 2 * 16 * 4;
  const fixed = layout === 'alone' ? 64 * 3 * 4 : 0;
  const bytes = layout === 'alone' ? 200 * perToken + 2 * fixed : 2 * 128 * perToken;
  const { decoder, close } = await decoderFixture(options, { kvCacheBytes: bytes, maxSequences: 3 });
  expect(decoder.layout).toBe(layout);
  expect(decoder.kvBytesPerToken).toBe(perToken);
  expect(decoder.fits([100], 0)).toBe(true);
  expect(decoder.fits([100, 100], 0)).toBe(true);
  expect(decoder.fits([129, 100], 0)).toBe(false);
  expect(decoder.fits([100, 100], 1)).toBe(false);
  expect(decoder.fits([100], 100 * perToken)).toBe(true);
  expect(decoder.fits([1, 1, 1, 1], 0)).toBe(false);
  const a = await begin(decoder, prompts(4)[3]!);
  const b = await begin(decoder, prompts(2)[1]!);
  expect(decoder.usedBytes).toBe((40 + 9) * perToken + 2 * fixed);
  for (let i = 0; i < 30; i++) await step(decoder, [a, b]);
  expect(decoder.usedBytes).toBe((70 + 39) * perToken + 2 * fixed);
  expect(decoder.heldBytes).toBe(layout === 'alone' ? decoder.usedBytes : 2 * 96 * perToken);
  expect(decoder.heldBytes).toBeLessThanOrEqual(bytes);
  decoder.remove(a.row);
  decoder.remove(b.row);
  expect([decoder.usedBytes, decoder.heldBytes]).toEqual([0, 0]);
  await close();
});

test('a run that fails leaves every row as it was', async () => {
  const { decoder, raw, close } = await decoderFixture({ attention: 'plain' }, { contextLength: 40 });
  const expected = [await raw([1, 2, 3], 20), await raw([7, 8], 20)];
  const all = [await begin(decoder, [1, 2, 3]), await begin(decoder, [7, 8])];
  await finish(decoder, all, 5);
  // No such token: the embedding has 96 rows.
  await expect(
    decoder.decode(
      all.map(({ row }) => row),
      Int32Array.of(5, 96),
    ),
  ).rejects.toThrow();
  await expect(decoder.prefill(all[0]!.row, Int32Array.of(1, 96, 2), true)).rejects.toThrow();
  await expect(decoder.prefill(all[0]!.row, new Int32Array(40), true)).rejects.toThrow(
    /exceeds the model's context of 40$/,
  );
  expect(all.map(({ row }) => row.length)).toEqual([7, 6]);
  await finish(decoder, all, 20);
  expect(all.map(({ chosen }) => chosen)).toEqual(expected);
  await close();
});

test.each(['gqa', 'plain'] as const)('a sequence fills the context to its last token (%s)', async (attention) => {
  const { decoder, raw, close } = await decoderFixture({ attention, contextLength: 70 }, { contextLength: 70 });
  const short = await begin(decoder, [4]);
  const long = await begin(decoder, prompts(8)[7]!, 50);
  await finish(decoder, [short, long], 7);
  expect(long.row.length).toBe(70);
  expect(long.chosen).toEqual(await raw(prompts(8)[7]!, 7));
  expect(short.chosen).toEqual(await raw([4], 7));
  await expect(step(decoder, [long])).rejects.toThrow("sequence of 71 tokens exceeds the model's context of 70");
  await close();
});
