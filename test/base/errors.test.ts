import { expect, test } from 'vitest';
import { withoutPaths } from '../../src/base/errors.js';

test.each([
  [
    "Cannot find package 'sharp' imported from /srv/app/dist/workers/image.js",
    "Cannot find package 'sharp' imported from ...",
  ],
  ["Cannot find module 'file:///srv/a b.js'", "Cannot find module '... b.js'"],
  ["ENOENT: no such file, open 'C:\\models\\x.json'", "ENOENT: no such file, open '...'"],
  ['nothing of the kind', 'nothing of the kind'],
])('%s', (message, expected) => {
  expect(withoutPaths(message)).toBe(expected);
});
