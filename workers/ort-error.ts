/**
 * ONNX Runtime's errors as data that may leave the process: a code, and a message without source files, paths or signatures.
 *
 * Called by workers/session.ts and workers/inference-worker.ts. ONNX Runtime has no error classes in JavaScript, only text.
 */
import { printable, ServeError } from '#src/base/errors';
import type { Failure } from '#src/runtime/messages';

/** A kernel that refused the values or shapes it got. The graph is fixed, so it is the request's data that led there. */
const KERNEL = /^Non-zero status code returned while running /;
/** Except where the kernel or its device is what is missing. */
const NOT_DATA = /not[ _]implemented|unsupported|cuda|cudnn|cublas|webgpu|device/i;
/** What ONNX Runtime itself refuses before a kernel runs. */
const DATA_FAULT = /INVALID_ARGUMENT|invalid (dimension|rank)|mismatch|got invalid/i;
const MEMORY = /failed to allocate|bad_alloc|allocat\w* failed|out of memory|BFCArena/i;

/** Whether a run failed only because a preallocated output had not the shape that the model computed. */
export function isShapeSurprise(message: string): boolean {
  return /output OrtValue provided for output .* has shape .* but the computed output shape|OrtValue shape verification failed/s.test(
    message,
  );
}

/** Element types of ONNX that ONNX Runtime's JavaScript API has no tensors for, by their numbers in `TensorProto.DataType`. */
const UNSERVED_TYPES: Readonly<Record<string, string>> = {
  14: 'COMPLEX64',
  15: 'COMPLEX128',
  16: 'BFLOAT16 (BF16)',
  17: 'FLOAT8E4M3FN',
  18: 'FLOAT8E4M3FNUZ',
  19: 'FLOAT8E5M2',
  20: 'FLOAT8E5M2FNUZ',
  21: 'UINT4',
  22: 'INT4',
  23: 'FLOAT4E2M1',
};

/** `message` of ONNX Runtime without build paths, function signatures and the location of the model. */
export function cleanOrtMessage(message: string): string {
  const text = message
    .replace(
      /^Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: /s,
      '$1 node $2: ',
    )
    .replace(/Load model from .* failed:/s, 'load failed: ')
    .replace(/Load model .* failed\./s, '')
    .replace(/\/onnxruntime_src\/\S+:\d+ [^\n]*?\)(::<lambda[^>]*>\s*\(?\)?)? ?(const )?/g, '')
    .replace(/\[ONNXRuntimeError\] : \d+ : (\w+) : /g, '')
    .replace(/\[with [^\]]*\] ?/g, '')
    .replace(/\b\w+\.(cc|cpp|h|hpp|cu|cuh):\d+ (\S+ )?/g, '')
    .replace(/(^|[\s'"(=:])(\/[\w.@+-]+)+\/?/g, '$1...')
    .replace(/0x[0-9a-fA-F]+/g, '...')
    .trim();
  return printable(text, 400);
}

/** A caught error of `session.run` or of loading as a {@link Failure}. */
export function failureOf(error: unknown, phase: 'load' | 'run'): Failure {
  if (error instanceof ServeError) return { code: error.code, message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  const unserved = /^Unsupported data type: (\d+)$/.exec(message)?.[1];
  if (unserved !== undefined) {
    const type = UNSERVED_TYPES[unserved] ?? `number ${unserved}`;
    return {
      code: 'UNIMPLEMENTED',
      message: `an input or output is of ONNX type ${type}, which ONNX Runtime's JavaScript API has no tensors for: cast it in the graph`,
    };
  }
  const text = cleanOrtMessage(message);
  if (MEMORY.test(message)) return { code: 'RESOURCE_EXHAUSTED', message: `onnx runtime ran out of memory: ${text}` };
  const refused = KERNEL.test(message) ? !NOT_DATA.test(message) : DATA_FAULT.test(message);
  if (phase === 'run' && refused)
    return { code: 'INVALID_ARGUMENT', message: `onnx runtime refused the data: ${text}` };
  return { code: 'INTERNAL', message: `onnx runtime: ${text}` };
}
