import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import { coresOfCpuMax, coresOfQuota, countCores, type ThreadPlan, threadPlan } from '../../src/base/cores.js';

describe('limits of a container', () => {
  test.each([
    ['max 100000', Number.POSITIVE_INFINITY],
    ['200000 100000\n', 2],
    ['150000 100000', 1.5],
    ['50000 100000', 0.5],
    ['20000 10000', 2],
    ['', Number.POSITIVE_INFINITY],
    ['nonsense here', Number.POSITIVE_INFINITY],
  ])('cpu.max %j is %d cores', (text, cores) => expect(coresOfCpuMax(text)).toBe(cores));

  test.each([
    ['-1\n', '100000\n', Number.POSITIVE_INFINITY],
    ['300000\n', '100000\n', 3],
    ['0', '0', Number.POSITIVE_INFINITY],
  ])('a quota of %j in %j is %d cores', (quota, period, cores) => expect(coresOfQuota(quota, period)).toBe(cores));

  const machine = (files: Record<string, string>) => (path: string) => files[path];
  test.each<[string, Record<string, string>, number]>([
    ['no files (another system)', {}, 16],
    ['v2 without a limit', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, 16],
    ['v2 in a container', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '400000 100000\n' }, 4],
    ['v2 below one core', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '20000 100000\n' }, 1],
    ['v2 with part of a core over', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '390000 100000\n' }, 3],
    [
      'v2 above what the machine has',
      { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '6400000 100000\n' },
      16,
    ],
    [
      'v2 where the limit stands on a parent',
      {
        '/proc/self/cgroup': '0::/system.slice/tensorwire.service\n',
        '/sys/fs/cgroup/system.slice/tensorwire.service/cpu.max': 'max 100000\n',
        '/sys/fs/cgroup/system.slice/cpu.max': '300000 100000\n',
      },
      3,
    ],
    [
      'v1 at its own path',
      {
        '/proc/self/cgroup': '4:memory:/a\n3:cpu,cpuacct:/docker/x\n1:cpuset:/docker/x\n0::/\n',
        '/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us': '200000\n',
        '/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us': '100000\n',
      },
      2,
    ],
    [
      'v1 in a container, whose mount has no such path',
      {
        '/proc/self/cgroup': '1:cpu:/docker/x\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '500000\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      5,
    ],
    [
      'v1 without a limit',
      {
        '/proc/self/cgroup': '1:cpu:/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      16,
    ],
    ['v1 where only cpuset and cpuacct are named', { '/proc/self/cgroup': '2:cpuacct:/\n1:cpuset:/\n' }, 16],
  ])('%s', (_, files, cores) => expect(countCores(machine(files), 16)).toBe(cores));

  test('on this machine there is at least one core, and no more than the system says', () => {
    const cores = countCores();
    expect(Number.isInteger(cores) && cores >= 1 && cores <= availableParallelism()).toBe(true);
  });
});

describe('sharing the cores out', () => {
  const plan = (cores: number, workerCount: number, intraOpThreads: number) =>
    threadPlan({ cores, workerCount, intraOpThreads });

  test.each<[number, number, number, ThreadPlan]>([
    [1, 0, 0, { workers: 1, intraOpThreads: 1 }],
    [2, 0, 0, { workers: 2, intraOpThreads: 1 }],
    [4, 0, 0, { workers: 4, intraOpThreads: 1 }],
    [7, 0, 0, { workers: 4, intraOpThreads: 1 }],
    [8, 0, 0, { workers: 4, intraOpThreads: 2 }],
    [64, 0, 0, { workers: 4, intraOpThreads: 16 }],
    [8, 2, 0, { workers: 2, intraOpThreads: 4 }],
    [8, 3, 0, { workers: 3, intraOpThreads: 2 }],
    [8, 8, 0, { workers: 8, intraOpThreads: 1 }],
    [8, 0, 2, { workers: 4, intraOpThreads: 2 }],
    [8, 0, 3, { workers: 2, intraOpThreads: 3 }],
    [8, 0, 8, { workers: 1, intraOpThreads: 8 }],
    [64, 0, 1, { workers: 4, intraOpThreads: 1 }],
    [8, 4, 2, { workers: 4, intraOpThreads: 2 }],
  ])('%d cores, %d workers and %d threads asked for', (cores, workers, threads, expected) => {
    expect(plan(cores, workers, threads)).toEqual(expected);
  });

  test('more workers than cores are cut, with a warning', () => {
    expect(plan(2, 8, 0)).toMatchObject({
      workers: 2,
      intraOpThreads: 1,
      warning: expect.stringContaining('instead of 8'),
    });
  });

  test('more threads than cores are cut, with a warning', () => {
    expect(plan(2, 0, 8)).toMatchObject({
      workers: 1,
      intraOpThreads: 2,
      warning: expect.stringContaining('instead of 8'),
    });
  });

  test('both numbers are taken as given, with a warning when they exceed the cores', () => {
    expect(plan(2, 4, 4)).toMatchObject({ workers: 4, intraOpThreads: 4, warning: expect.stringContaining('2 cores') });
  });

  test('no plan that chooses a number oversubscribes', () => {
    for (let cores = 1; cores <= 20; cores++) {
      for (let asked = 0; asked <= 24; asked++) {
        for (const { workers, intraOpThreads } of [plan(cores, asked, 0), plan(cores, 0, asked)]) {
          expect(workers >= 1 && intraOpThreads >= 1 && workers * intraOpThreads <= cores).toBe(true);
        }
      }
    }
  });
});
