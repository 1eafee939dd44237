/** The size of a model's weights, by the files that lie beside each other. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { weightBytes } from '../../src/engine/weight-bytes.js';
import { temporaryDirectory } from '../support/engine.js';

function folder(sizes: Readonly<Record<string, number>>): (file: string) => ReturnType<typeof weightBytes> {
  const directory = temporaryDirectory();
  for (const [name, size] of Object.entries(sizes)) writeFileSync(join(directory, name), new Uint8Array(size));
  return (file) => weightBytes(join(directory, file));
}

test('external data counts under each name that exporters give it', async () => {
  const bytesOf = folder({ 'model.onnx': 1, 'model.onnx_data': 10, 'model.onnx_data_1': 100, 'model.onnx.data': 1000 });
  expect(await bytesOf('model.onnx')).toEqual({ bytes: 1111, isExternal: true });
});

test('what is another model, or the same one before it was exported, does not', async () => {
  const bytesOf = folder({
    'model.onnx': 1,
    'model_q4.onnx': 10,
    'model_q4.onnx_data': 100,
    'model.safetensors': 1000,
  });
  expect(await bytesOf('model.onnx')).toEqual({ bytes: 1, isExternal: false });
  expect(await bytesOf('model_q4.onnx')).toEqual({ bytes: 110, isExternal: true });
});
