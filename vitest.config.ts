import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Suites start real servers with worker threads; two at a time is what a small machine carries.
    maxWorkers: 2,
    pool: 'forks',
    // These limits end what hangs. They judge no speed: a machine may be ten times slower than the one that this was written on.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 120_000, interval: 20 } },
  },
});
