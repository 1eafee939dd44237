import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type RepositoryEntry, scanRepository, servedVersions } from '../../src/engine/repository.js';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'repository-'));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

/** Writes files by path below the root; a path that ends in '/' is an empty directory. */
async function lay(...files: (string | [path: string, content: string | Uint8Array])[]): Promise<void> {
  for (const file of files) {
    const [path, content] = typeof file === 'string' ? [file, ''] : file;
    if (path.endsWith('/')) {
      await mkdir(join(root, path), { recursive: true });
    } else {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), content);
    }
  }
}

const scan = (...paths: string[]) => scanRepository(paths.length > 0 ? paths.map((path) => join(root, path)) : [root]);

const summary = ({ name, versions, problem }: RepositoryEntry) => [name, versions, problem];

const NO_VERSION = (name: string) =>
  `at least one version must be available under the version policy of model '${name}': its directory has no version directory such as '1', nor a config.json as folders from Hugging Face have`;

describe('a repository', () => {
  test('has its models by name with ascending versions', async () => {
    await lay('b/10/model.onnx', 'b/2/model.onnx', 'b/1/model.onnx', ['a/config.pbtxt', 'name: "a"'], 'a/1/model.onnx');
    const entries = await scan();
    expect(entries.map(summary)).toEqual([
      ['a', [1], undefined],
      ['b', [1, 2, 10], undefined],
    ]);
    expect(entries[0]?.configText).toBe('name: "a"');
    expect(entries[1]).not.toHaveProperty('configText');
    expect(basename(entries[1]!.directory)).toBe('b');
  });

  test('says of a folder with weights for other runtimes only that they must be exported', async () => {
    await lay('a/config.json', 'a/model.safetensors', 'b/config.json', 'b/model.safetensors', 'b/onnx/model.onnx');
    await lay('c/pytorch_model-00001-of-00002.bin', 'd/tiny.gguf', 'e/1/model.onnx', 'e/1/model.safetensors');
    const other = (name: string, file: string) =>
      `model '${name}' has no ONNX file, and '${file}' is for others: export it to ONNX, for instance by 'optimum-cli export onnx'`;
    expect((await scan()).map(summary)).toEqual([
      ['a', [], other('a', 'model.safetensors')],
      ['b', [1], undefined],
      ['c', [], other('c', 'pytorch_model-00001-of-00002.bin')],
      ['d', [], other('d', 'tiny.gguf')],
      ['e', [1], undefined],
    ]);
  });

  test('takes as versions only directories named by a positive number without leading zeros', async () => {
    await lay(
      'a/1/model.onnx',
      'a/0/model.onnx',
      'a/02/model.onnx',
      'a/-3/model.onnx',
      'a/4.5/model.onnx',
      'a/v6/model.onnx',
    );
    await lay('a/7', 'a/labels.txt', 'a/1234567890123456789/model.onnx');
    expect((await scan()).map(summary)).toEqual([['a', [1], undefined]]);
  });

  test('ignores hidden directories, files and what does not look like a model', async () => {
    await lay(
      '.git/1/model.onnx',
      '..data/1/model.onnx',
      'README.md',
      'lost+found/',
      'scripts/train.py',
      'a/1/model.onnx',
    );
    expect((await scan()).map(summary)).toEqual([['a', [1], undefined]]);
  });

  test('that is empty has no models', async () => {
    expect(await scan()).toEqual([]);
  });

  test('may be reached and may have its models over links', async () => {
    await lay('store/..v1/net/1/model.onnx', 'repository/');
    await symlink(join(root, 'store/..v1/net'), join(root, 'repository/net'));
    await symlink(join(root, 'repository'), join(root, 'link'));
    expect((await scan('link')).map(summary)).toEqual([['net', [1], undefined]]);
  });

  test('takes the configuration that --model-config-name names, where there is one', async () => {
    await lay('a/1/model.onnx', ['a/config.pbtxt', 'max_batch_size: 1'], ['a/configs/h100.pbtxt', 'max_batch_size: 2']);
    await lay('b/1/model.onnx', ['b/config.pbtxt', 'max_batch_size: 3']);
    const entries = await scanRepository([root], { configName: 'h100' });
    expect(entries.map((entry) => entry.configText)).toEqual(['max_batch_size: 2', 'max_batch_size: 3']);
  });
});

describe("a folder in Hugging Face's layout is version 1 of a model", () => {
  const layout = ({ name, versions, hubLayout, problem }: RepositoryEntry) => [name, versions, hubLayout, problem];

  test('with the ONNX files in a folder of their own or beside config.json', async () => {
    await lay(
      'optimum/config.json',
      'optimum/onnx/model.onnx',
      'optimum/tokenizer.json',
      'optimum/1_Pooling/config.json',
    );
    await lay('flat/config.json', 'flat/model.onnx', 'flat/model.onnx_data');
    await lay('quantized/config.json', 'quantized/onnx/model_q4.onnx', ['quantized/config.pbtxt', 'max_batch_size: 8']);
    const entries = await scan();
    expect(entries.map(layout)).toEqual([
      ['flat', [1], true, undefined],
      ['optimum', [1], true, undefined],
      ['quantized', [1], true, undefined],
    ]);
    expect(entries[2]!.configText).toBe('max_batch_size: 8');
  });

  test('but not where it has version directories', async () => {
    await lay('a/config.json', 'a/onnx/model.onnx', 'a/3/model.onnx');
    expect((await scan()).map(layout)).toEqual([['a', [3], undefined, undefined]]);
  });

  test('but not without an ONNX file or without config.json', async () => {
    await lay('words/config.json', 'words/vocab.txt', 'bare/onnx/model.onnx', 'odd/config.json/', 'odd/model.onnx');
    expect((await scan()).map(layout)).toEqual(['bare', 'odd'].map((name) => [name, [], undefined, NO_VERSION(name)]));
  });

  test('also when the path itself is that folder', async () => {
    await lay('models/config.json', 'models/onnx/model.onnx', 'models/tokenizer.json');
    expect((await scan('models')).map(layout)).toEqual([['models', [1], true, undefined]]);
    await lay(['models/config.pbtxt', 'name: "minilm"']);
    expect((await scan('models')).map(layout)).toEqual([['minilm', [1], true, undefined]]);
  });
});

describe('a model that can not be loaded is listed with the reason', () => {
  test('when it has a configuration but no version', async () => {
    await lay(['a/config.pbtxt', '']);
    expect((await scan()).map(summary)).toEqual([['a', [], NO_VERSION('a')]]);
  });

  test('when its model file has no version directory around it', async () => {
    await lay('a/model.onnx', 'b/v1/model.onnx', 'c/01/net.onnx');
    expect((await scan()).map(summary)).toEqual(['a', 'b', 'c'].map((name) => [name, [], NO_VERSION(name)]));
  });

  test('when it is in two repositories', async () => {
    await lay('one/a/1/model.onnx', 'one/b/1/model.onnx', 'two/a/1/model.onnx', 'three/a/1/model.onnx');
    expect((await scan('one', 'two', 'three')).map(summary)).toEqual([
      ['a', [1], 'model appears in two or more repositories'],
      ['b', [1], undefined],
    ]);
  });

  test('but not when one repository is given twice', async () => {
    await lay('one/a/1/model.onnx');
    await symlink(join(root, 'one'), join(root, 'same'));
    expect((await scan('one', 'one', 'same')).map(summary)).toEqual([['a', [1], undefined]]);
  });

  test('when its configuration is a directory, too long or no text', async () => {
    await lay('a/1/model.onnx', 'a/config.pbtxt/');
    await lay('b/1/model.onnx', ['b/config.pbtxt', '#'.repeat(1024 * 1024 + 1)]);
    await lay('c/1/model.onnx', ['c/config.pbtxt', Uint8Array.of(0x6e, 0xff, 0xfe)]);
    await lay('d/1/model.onnx', ['d/config.pbtxt', '#'.repeat(1024 * 1024)]);
    expect((await scan()).map(summary)).toEqual([
      ['a', [], 'config.pbtxt is not a file'],
      ['b', [], 'config.pbtxt has 1048577 bytes, at most 1048576 are read'],
      ['c', [], 'config.pbtxt is not valid UTF-8'],
      ['d', [1], undefined],
    ]);
  });

  test('when its configuration is a pipe that nobody writes to', async () => {
    await lay('a/1/model.onnx');
    execFileSync('mkfifo', [join(root, 'a/config.pbtxt')]);
    expect((await scan()).map(summary)).toEqual([['a', [], 'config.pbtxt is not a file']]);
  });

  test('when its configuration can not be opened', async () => {
    await lay('a/1/model.onnx');
    await symlink('config.pbtxt', join(root, 'a/config.pbtxt'));
    expect((await scan()).map(summary)).toEqual([['a', [], 'config.pbtxt can not be read (ELOOP)']]);
  });

  test('when its name has a control character', async () => {
    await lay('a\u001bb/1/model.onnx', 'fine/1/model.onnx');
    expect((await scan()).map(summary)).toEqual([
      ['a?b', [], "model name has a control character or '/'"],
      ['fine', [1], undefined],
    ]);
  });
});

describe('a path that is one model', () => {
  test('by its configuration and versions is a repository of one, named by the configuration', async () => {
    await lay(['models/config.pbtxt', 'name: "resnet"'], 'models/1/net.onnx', 'models/3/net.onnx');
    const [entry] = await scan('models');
    expect(summary(entry!)).toEqual(['resnet', [1, 3], undefined]);
    expect(basename(entry!.directory)).toBe('models');
  });

  test('by a model file in a version is named by its directory', async () => {
    await lay('models/1/model.onnx');
    expect((await scan('models')).map(summary)).toEqual([['models', [1], undefined]]);
  });

  test('with the model in a directory of its own is one too', async () => {
    await lay('models/1/model.onnx/model.onnx', 'models/1/model.onnx/weights.bin');
    expect((await scan('models')).map(summary)).toEqual([['models', [1], undefined]]);
  });

  test('keeps the name of its directory when the configuration names none or can not be parsed', async () => {
    await lay(
      ['a/config.pbtxt', 'max_batch_size: 2'],
      'a/1/model.onnx',
      ['b/config.pbtxt', 'name: {'],
      'b/1/model.onnx',
    );
    expect((await scan('a')).map(summary)).toEqual([['a', [1], undefined]]);
    expect((await scan('b')).map(summary)).toEqual([['b', [1], undefined]]);
  });

  test.each([
    [`x`.repeat(257), 'model name is longer than 256 characters'],
    ['a/b', "model name has a control character or '/'"],
    ['a\\nb', "model name has a control character or '/'"],
  ])('may not be called %s', async (name, problem) => {
    await lay(['models/config.pbtxt', `name: "${name}"`], 'models/1/model.onnx');
    const [entry] = await scan('models');
    expect(entry?.problem).toBe(problem);
    expect(entry?.name).not.toMatch(/\n/);
  });

  test('is told from a repository with a model called 1', async () => {
    await lay('repository/1/1/model.onnx', 'repository/2/1/model.onnx');
    expect((await scan('repository')).map(summary)).toEqual([
      ['1', [1], undefined],
      ['2', [1], undefined],
    ]);
  });
});

describe('a path that is no repository stops the start with option and value', () => {
  test('when there is nothing', async () => {
    const path = join(root, 'nothing');
    await expect(scanRepository([root, path])).rejects.toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: `--model-repository '${path}' does not exist` }),
    );
  });

  test('when it is a file', async () => {
    await lay('file');
    const path = join(root, 'file');
    await expect(scanRepository([path])).rejects.toThrow(`--model-repository '${path}' is not a directory`);
  });

  test('when it can not be opened', async () => {
    const path = join(root, 'loop');
    await symlink('loop', path);
    await expect(scanRepository([path])).rejects.toThrow(`--model-repository '${path}' can not be read (ELOOP)`);
  });
});

describe('served versions', () => {
  const table: [Parameters<typeof servedVersions>[0], number[], number[]][] = [
    [{ kind: 'latest', count: 1 }, [1, 2, 10], [10]],
    [{ kind: 'latest', count: 2 }, [10, 1, 2], [2, 10]],
    [{ kind: 'latest', count: 9 }, [1, 2], [1, 2]],
    [{ kind: 'latest', count: 1 }, [], []],
    [{ kind: 'all' }, [3, 1], [1, 3]],
    [{ kind: 'specific', versions: [2, 7] }, [1, 2, 3], [2]],
    [{ kind: 'specific', versions: [7] }, [1, 2, 3], []],
  ];
  test.each(table)('of %o among %j are %j', (policy, versions, served) => {
    expect(servedVersions(policy, versions)).toEqual(served);
  });
});
