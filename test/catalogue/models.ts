/** The models that the catalogue's cases run on. */
import type { Datatype } from '../../src/base/datatype.js';
import {
  addSubModel,
  buildModel,
  dynamicOutputModel,
  gatherModel,
  identityModel,
  intDivModel,
  scalarModel,
  slowModel,
  stringModel,
  writeModel,
  zeroSizeModel,
} from '../support/onnx.js';

/** Each has a model `id_<datatype>`: identity over [batch, n]. */
export const IDENTITIES: readonly Datatype[] = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'FP32',
  'FP64',
  'BYTES',
];

/** Writes all of them to `repository`. */
export function writeModels(repository: string): void {
  const write = (name: string, model: Uint8Array, config?: string): void => {
    writeModel(repository, name, { versions: { 1: model }, ...(config !== undefined && { config }) });
  };
  write('simple', addSubModel(), 'max_batch_size: 8\ndynamic_batching {}');
  for (const datatype of IDENTITIES) {
    write(`id_${datatype.toLowerCase()}`, identityModel(datatype, ['n']));
  }
  write('fixed', identityModel('FP32', [2, 3], { batching: false }));
  write('vector', identityModel('FP32', ['n'], { batching: false }), 'max_batch_size: 0');
  write('empty', zeroSizeModel());
  write('scalar', scalarModel());
  write('strings', stringModel());
  write(
    'gather',
    gatherModel(),
    'max_batch_size: 32\ndynamic_batching { max_queue_delay_microseconds: 200000 preferred_batch_size: 32 }',
  );
  write('divide', intDivModel('INT32', 'Div'));
  write('modulo', intDivModel('INT64', 'Mod'));
  write('dynamic', dynamicOutputModel());
  // On one of the two workers, one at a time: what comes behind a running request waits in the queue.
  for (const [name, turns] of Object.entries({ slow: 1000, slower: 10_000, slowest: 60_000 })) {
    write(name, slowModel(turns), 'max_batch_size: 1\ninstance_group { count: 1 }');
  }
  // Without an arena: it would keep the largest result for ever, and the memory that the suite prints would say nothing else.
  write('fill', fillModel(), 'max_batch_size: 0\nparameters { key: "enable_mem_arena" value { string_value: "0" } }');
}

/** A tensor of zeros with the shape that INPUT0 (INT64 [n]) says. */
function fillModel(): Buffer {
  return buildModel({
    name: 'fill',
    inputs: [{ name: 'INPUT0', datatype: 'INT64', shape: ['n'] }],
    outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape: ['a', 'b'] }],
    nodes: [{ op: 'ConstantOfShape', inputs: ['INPUT0'], outputs: ['OUTPUT0'] }],
  });
}
