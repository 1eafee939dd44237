import { describe, expect, test } from 'vitest';
import { parseModelConfig, type SessionSettings } from '../../src/engine/model-config.js';
import {
  executionAccelerators,
  graphOptimizationLevel,
  instanceGroups,
  parametersOf,
  sessionSettings,
} from '../../src/engine/model-config-session.js';

const raw = (text: string) => parseModelConfig(text, 'm');
const parameter = (key: string, value: string) => `parameters { key: "${key}" value { string_value: "${value}" } }`;
const settings = (text: string) => sessionSettings(parametersOf(raw(text)), 'm');

describe('session settings', () => {
  const table: [string, string, Partial<SessionSettings>][] = [
    ['intra_op_thread_count', '4', { intraOpNumThreads: 4 }],
    ['intra_op_thread_count', '0', { intraOpNumThreads: 0 }],
    ['intra_op_thread_count', '1024', { intraOpNumThreads: 1024 }],
    ['inter_op_thread_count', ' 2 ', { interOpNumThreads: 2 }],
    ['execution_mode', '0', { executionMode: 'sequential' }],
    ['execution_mode', '1', { executionMode: 'parallel' }],
    ['enable_mem_arena', '0', { enableCpuMemArena: false }],
    ['enable_mem_arena', 'TRUE', { enableCpuMemArena: true }],
    ['enable_mem_pattern', 'false', { enableMemPattern: false }],
    [
      'session.use_device_allocator_for_initializers',
      '1',
      { configEntries: { 'session.use_device_allocator_for_initializers': '1' } },
    ],
    [
      'memory.enable_memory_arena_shrinkage',
      'cpu:0',
      { runEntries: { 'memory.enable_memory_arena_shrinkage': 'cpu:0' } },
    ],
    ['something_of_my_own', 'x', {}],
  ];
  test.each(table)('%s = %j', (key, value, expected) => {
    expect(settings(parameter(key, value))).toEqual({ configEntries: {}, runEntries: {}, ...expected });
  });

  const refused: [string, string, string][] = [
    [
      'intra_op_thread_count',
      'many',
      "failed to convert intra_op_thread_count 'many' to integral number in range [0, 1024] for m",
    ],
    [
      'intra_op_thread_count',
      '',
      "failed to convert intra_op_thread_count '' to integral number in range [0, 1024] for m",
    ],
    [
      'intra_op_thread_count',
      '1.5',
      "failed to convert intra_op_thread_count '1.5' to integral number in range [0, 1024] for m",
    ],
    [
      'inter_op_thread_count',
      '-1',
      "failed to convert inter_op_thread_count '-1' to integral number in range [0, 1024] for m",
    ],
    [
      'inter_op_thread_count',
      '1025',
      "failed to convert inter_op_thread_count '1025' to integral number in range [0, 1024] for m",
    ],
    [
      'execution_mode',
      '2',
      'Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got 2 for m',
    ],
    ['enable_mem_arena', 'yes', "failed to convert enable_mem_arena 'yes' to boolean value for m"],
  ];
  test.each(refused)('refuses %s = %j', (key, value, message) => {
    expect(() => settings(parameter(key, value))).toThrow(message);
  });

  test('all parameters are kept by name', () => {
    const text = `${parameter('a', '1')} parameters { key: "b" value { } }`;
    expect(parametersOf(raw(text))).toEqual(
      new Map([
        ['a', '1'],
        ['b', ''],
      ]),
    );
  });
});

test.each([
  ['', 'all'],
  ['optimization { }', 'all'],
  ['optimization { graph { level: 0 } }', 'all'],
  ['optimization { graph { level: -1 } }', 'basic'],
  ['optimization { graph { level: 1 } }', 'extended'],
  ['optimization { graph { level: 2 } }', 'disabled'],
])('%j optimizes graphs at level %s', (text, level) => {
  expect(graphOptimizationLevel(raw(text), 'm')).toBe(level);
});

test('a graph level that does not exist is refused', () => {
  expect(() => graphOptimizationLevel(raw('optimization { graph { level: 3 } }'), 'm')).toThrow(
    'optimization graph level must be -1, 0, 1 or 2 for m, got 3',
  );
});

test('accelerators keep their order and parameters', () => {
  const text = `optimization { execution_accelerators {
    gpu_execution_accelerator [ { name: "tensorrt" parameters { key: "precision_mode" value: "FP16" } }, { name: "cuda" } ]
    cpu_execution_accelerator: [ { name: "openvino" } ] } }`;
  expect(executionAccelerators(raw(text))).toEqual({
    gpu: [
      { name: 'tensorrt', parameters: { precision_mode: 'FP16' } },
      { name: 'cuda', parameters: {} },
    ],
    cpu: [{ name: 'openvino', parameters: {} }],
  });
});

test('instance groups get names and counts', () => {
  expect(instanceGroups(raw(''), 'm', 2)).toEqual([{ name: 'm_0', kind: 'KIND_AUTO', count: 2, gpus: [] }]);
  expect(
    instanceGroups(raw('instance_group [ { kind: KIND_CPU }, { count: 5 name: "own" kind: KIND_MODEL } ]'), 'm', 1),
  ).toEqual([
    { name: 'm_0', kind: 'KIND_CPU', count: 1, gpus: [] },
    { name: 'own', kind: 'KIND_MODEL', count: 5, gpus: [] },
  ]);
});
