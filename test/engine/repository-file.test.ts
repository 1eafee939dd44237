import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RepositoryEntry } from '../../src/engine/repository.js';
import { modelFile, readLabels, readWarmupFile } from '../../src/engine/repository-file.js';

let root: string;
let entry: RepositoryEntry;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'repository-file-')));
  entry = { name: 'm', directory: join(root, 'm'), versions: [1] };
  await mkdir(entry.directory);
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

async function lay(path: string, content: string | Uint8Array = ''): Promise<string> {
  const full = join(root, path);
  await mkdir(dirname(full), { recursive: true });
  await writeFile(full, content);
  return full;
}

const refusal = (code: string, message: string) => expect.objectContaining({ code, message });

describe('the model file', () => {
  test('is model.onnx in the version, or what the configuration names', async () => {
    const standard = await lay('m/1/model.onnx');
    const other = await lay('m/1/nets/small.onnx');
    expect(await modelFile(entry, 1)).toBe(standard);
    expect(await modelFile(entry, 1, 'nets/small.onnx')).toBe(other);
  });

  test('lies in a directory of that name when that is one', async () => {
    const inner = await lay('m/1/model.onnx/model.onnx');
    expect(await modelFile(entry, 1)).toBe(inner);
  });

  test('may be a link to where the operator keeps it', async () => {
    const blob = await lay('blobs/abc');
    await mkdir(join(root, 'm/1'));
    await symlink(blob, join(root, 'm/1/model.onnx'));
    expect(await modelFile(entry, 1)).toBe(join(root, 'm/1/model.onnx'));
  });

  test('that is missing is named without its path', async () => {
    await lay('m/1/model.onnx.bak');
    await lay('m/2/model.onnx/weights.bin');
    await expect(modelFile(entry, 1)).rejects.toThrow(
      refusal('NOT_FOUND', "unable to find 'model.onnx' in version 1 of model 'm'"),
    );
    await expect(modelFile(entry, 2)).rejects.toThrow(
      "unable to find 'model.onnx/model.onnx' in version 2 of model 'm'",
    );
    await expect(modelFile(entry, 3)).rejects.toThrow("unable to find 'model.onnx' in version 3 of model 'm'");
  });

  test.each(['../2/model.onnx', '/etc/passwd', 'a/../../b', '..\\b', '', 'a\0b'])(
    'may not be called %j',
    async (name) => {
      await expect(modelFile(entry, 1, name)).rejects.toThrow(
        expect.objectContaining({
          code: 'INVALID_ARGUMENT',
          message: expect.stringMatching(
            /^default_model_filename '.*' of model 'm' must be a relative path without '\.\.'$/,
          ),
        }),
      );
    },
  );
});

describe("the model file in Hugging Face's layout", () => {
  const hub = (): RepositoryEntry => ({ ...entry, hubLayout: true });

  test('is the first there is of a written order, in onnx before beside', async () => {
    const order = ['model_bnb4.onnx', 'model_fp16.onnx', 'onnx/model_int8.onnx', 'onnx/model_quantized.onnx'];
    order.unshift('onnx/decoder_model_merged.onnx');
    for (const file of [...order, 'model.onnx', 'onnx/model.onnx']) {
      const path = await lay(`m/${file}`);
      expect(await modelFile(hub(), 1), file).toBe(path);
    }
  });

  test('is the one that the configuration names, by its name or its path', async () => {
    await lay('m/onnx/model.onnx');
    const quantized = await lay('m/onnx/model_quantized.onnx');
    expect(await modelFile(hub(), 1, 'model_quantized.onnx')).toBe(quantized);
    expect(await modelFile(hub(), 1, 'onnx/model_quantized.onnx')).toBe(quantized);
    await expect(modelFile(hub(), 1, 'model_fp16.onnx')).rejects.toThrow(
      refusal(
        'NOT_FOUND',
        "unable to find 'model_fp16.onnx' in model 'm', which has 'onnx/model.onnx', 'onnx/model_quantized.onnx': name one in default_model_filename of config.pbtxt",
      ),
    );
    await expect(modelFile(hub(), 1, '../model.onnx')).rejects.toThrow("must be a relative path without '..'");
  });

  test('of another name is taken where it is the only one', async () => {
    const only = await lay('m/onnx/decoder.onnx');
    expect(await modelFile(hub(), 1)).toBe(only);
    await lay('m/onnx/encoder.onnx');
    await expect(modelFile(hub(), 1)).rejects.toThrow("which has 'onnx/decoder.onnx', 'onnx/encoder.onnx'");
  });
});

describe('labels', () => {
  test('are the lines of the file, whatever ends them', async () => {
    await lay('m/unix.txt', 'cat\ndog\n\nbird\n');
    await lay('m/windows.txt', 'cat\r\ndog');
    await lay('m/empty.txt', '');
    expect(await readLabels(entry, 'unix.txt')).toEqual(['cat', 'dog', '', 'bird']);
    expect(await readLabels(entry, 'windows.txt')).toEqual(['cat', 'dog']);
    expect(await readLabels(entry, 'empty.txt')).toEqual([]);
  });

  test('are read over links that stay in the model, as Kubernetes mounts them', async () => {
    await lay('m/..2026/labels.txt', 'a');
    await symlink('..2026', join(entry.directory, '..data'));
    await symlink('..data/labels.txt', join(entry.directory, 'labels.txt'));
    expect(await readLabels(entry, 'labels.txt')).toEqual(['a']);
  });

  test('outside of the model are refused, also behind a link', async () => {
    await lay('secret.txt', 'secret');
    await symlink(join(root, 'secret.txt'), join(entry.directory, 'file.txt'));
    await symlink(root, join(entry.directory, 'up'));
    for (const name of ['file.txt', 'up/secret.txt']) {
      await expect(readLabels(entry, name)).rejects.toThrow(
        refusal('INVALID_ARGUMENT', `file '${name}' of model 'm' lies outside the model's directory`),
      );
    }
    for (const name of ['../secret.txt', join(root, 'secret.txt'), 'x/../../secret.txt']) {
      await expect(readLabels(entry, name)).rejects.toThrow(
        refusal('INVALID_ARGUMENT', `label_filename '${name}' of model 'm' must be a relative path without '..'`),
      );
    }
  });

  test('of a sibling whose name begins like the model are outside too', async () => {
    await lay('m-secret/labels.txt', 'secret');
    await symlink(join(root, 'm-secret'), join(entry.directory, 'near'));
    await expect(readLabels(entry, 'near/labels.txt')).rejects.toThrow("lies outside the model's directory");
  });

  test('that are missing, a directory, a pipe or too long are refused by name', async () => {
    await mkdir(join(entry.directory, 'directory'));
    execFileSync('mkfifo', [join(entry.directory, 'pipe')]);
    await truncate(await lay('m/long.txt'), 16 * 1024 * 1024 + 1);
    await expect(readLabels(entry, 'none.txt')).rejects.toThrow(
      refusal('NOT_FOUND', "unable to find file 'none.txt' of model 'm'"),
    );
    await expect(readLabels(entry, 'directory')).rejects.toThrow("file 'directory' of model 'm' is not a file");
    await expect(readLabels(entry, 'pipe')).rejects.toThrow("file 'pipe' of model 'm' is not a file");
    await expect(readLabels(entry, 'long.txt')).rejects.toThrow(
      "file 'long.txt' of model 'm' has 16777217 bytes, at most 16777216 are read",
    );
  });
});

describe('warm-up data', () => {
  test('is read from the directory warmup', async () => {
    await lay('m/warmup/deep/x.bin', Uint8Array.of(1, 2, 0, 255));
    expect([...(await readWarmupFile(entry, 'deep/x.bin'))]).toEqual([1, 2, 0, 255]);
  });

  test('can not be read from elsewhere', async () => {
    await lay('m/labels.txt', 'a');
    await lay('m/warmup/x');
    await expect(readWarmupFile(entry, '../labels.txt')).rejects.toThrow(
      "input_data_file '../labels.txt' of model 'm' must be a relative path without '..'",
    );
    await expect(readWarmupFile(entry, 'labels.txt')).rejects.toThrow(
      "unable to find file 'warmup/labels.txt' of model 'm'",
    );
  });
});
