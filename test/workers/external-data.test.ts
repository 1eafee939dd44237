import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ServeError } from '#src/base/errors';
import { assertExternalDataInside } from '../../workers/onnx-scan.js';

const root = mkdtempSync(join(tmpdir(), 'tensorwire-'));
const directory = join(root, 'model');
mkdirSync(join(directory, 'sub'), { recursive: true });
for (const path of ['model/w.bin', 'model/sub/v.bin', 'model/linked.bin', 'secret'])
  writeFileSync(join(root, path), 'x');
linkSync(join(directory, 'linked.bin'), join(directory, 'twin.bin'));
symlinkSync(join(root, 'secret'), join(directory, 'soft.bin'));
symlinkSync(root, join(directory, 'out'));
writeFileSync(join(directory, 'pointer.bin'), 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n');
const LINK =
  "must not be a symbolic link, which ONNX Runtime does not follow: put the file itself there, as 'hf download --local-dir' does";
afterAll(() => rmSync(root, { recursive: true }));

test('files inside the directory pass', () => {
  assertExternalDataInside(directory, []);
  assertExternalDataInside(directory, ['w.bin', 'sub/v.bin', './w.bin']);
});

test.each([
  ['', "external data '' of the model has no valid name"],
  ['w\0.bin', "external data 'w?.bin' of the model has no valid name"],
  [join(directory, 'w.bin'), "external data 'w.bin' of the model must not have an absolute path"],
  ['C:w.bin', "external data 'C:w.bin' of the model must not have an absolute path"],
  ['../secret', "external data 'secret' of the model must not use '..'"],
  ['sub/../w.bin', "external data 'w.bin' of the model must not use '..'"],
  ['sub\\v.bin', "external data 'sub\\v.bin' of the model has no valid name"],
  ['soft.bin', `external data 'soft.bin' of the model ${LINK}`],
  ['out/secret', `external data 'secret' of the model ${LINK}`],
  ['linked.bin', "external data 'linked.bin' of the model must not be a hard link"],
  [
    'pointer.bin',
    "external data 'pointer.bin' of the model is a pointer of Git LFS: fetch the file itself with 'git lfs pull'",
  ],
  ['gone.bin', "external data 'gone.bin' of the model is missing"],
  ['w.bin/x', "external data 'x' of the model is missing"],
  ['sub', "external data 'sub' of the model is not a regular file"],
  ['a'.repeat(5000), `external data '${'a'.repeat(64)}...' of the model is missing`],
])('%j is refused by its bare name', (location, message) => {
  let error: unknown;
  try {
    assertExternalDataInside(directory, ['w.bin', location]);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(ServeError);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message });
});
