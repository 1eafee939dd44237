/**
 * From a model's file to a session of ONNX Runtime: the check before the load, the options, the refusals.
 *
 * Called by workers/session.ts and workers/decoder.ts. Owns no session; must not print, nor let ONNX Runtime print.
 */
import { readFile } from 'node:fs/promises';
import type { InferenceSession } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { SessionOptions } from '#src/runtime/messages';
import { assertExternalDataInside, type OnnxScan, scanModel } from './onnx-scan.js';
import { failureOf } from './ort-error.js';

/** Files above this are not read in one piece (Buffer's own limit); ONNX files that large keep weights outside. */
const READ_MAX_BYTES = 2 ** 31 - 1;

/** Undefined for a file too large to be read in one piece. Throws ServeError for one that is not fit to be loaded. */
export async function scanFile(path: string, directory: string): Promise<OnnxScan | undefined> {
  const bytes = await readModel(path);
  if (bytes === undefined) return undefined;
  try {
    const scan = scanModel(bytes);
    assertExternalDataInside(directory, scan.externalData);
    return scan;
  } finally {
    freeBytes(bytes);
  }
}

/** The bytes of a model's file; undefined for one too large to be read in one piece. */
export async function readModel(path: string): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readFile(path);
    return bytes.byteLength > READ_MAX_BYTES ? undefined : bytes;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_FS_FILE_TOO_LARGE') return undefined;
    throw new ServeError('INVALID_ARGUMENT', `model file can't be read (${code ?? 'unknown reason'})`);
  }
}

/** Left to the collector, files of many loads lie in memory beside the sessions, and their size is taken for a cost. */
export function freeBytes(bytes: Uint8Array): void {
  if (bytes.byteLength === bytes.buffer.byteLength) (bytes.buffer as ArrayBuffer).transfer(0);
}

/** Throws ServeError for a provider that is not there, else ONNX Runtime's error. Bytes are not needed once it resolves. */
export async function createSession(
  source: string | Uint8Array,
  options: InferenceSession.SessionOptions,
  providers: readonly string[],
): Promise<InferenceSession> {
  // A provider that this build does not know is passed over with a line in ONNX Runtime's log, and the model would run on the CPU.
  const known = ort.listSupportedBackends().map(({ name }) => name);
  const unknown = providers.find((name) => !known.includes(name));
  if (unknown) {
    throw new ServeError(
      'FAILED_PRECONDITION',
      `execution provider '${unknown}' is not part of ONNX Runtime on this platform, which has ${known.join(', ')}`,
    );
  }
  // ONNX Runtime's own log would print paths to stderr in colour; what fails comes back as an error, which is logged as ours are.
  ort.env.logLevel = 'fatal';
  try {
    return typeof source === 'string'
      ? await ort.InferenceSession.create(source, options)
      : await ort.InferenceSession.create(source, options);
  } catch (error) {
    const provider = providers.find((name) => name !== 'cpu');
    // A provider that is not there fails with the name of a shared library, which says nothing to a user.
    if (provider && /provider|shared library|adapter|CUDA|not.*(available|supported)|backend/i.test(String(error))) {
      const { message } = failureOf(error, 'load');
      throw new ServeError(
        'FAILED_PRECONDITION',
        `execution provider '${provider}' is not available on this machine (${message})`,
      );
    }
    throw error;
  }
}

/** Providers that take a device number; others refuse the option. */
const DEVICE_PROVIDERS: ReadonlySet<string> = new Set(['cuda', 'tensorrt', 'dml']);

/** `options` as ONNX Runtime's binding takes them. */
export function ortOptions(options: SessionOptions): InferenceSession.SessionOptions {
  return {
    executionProviders: options.executionProviders.map((name) =>
      DEVICE_PROVIDERS.has(name) ? { name, deviceId: options.deviceId } : name,
    ),
    intraOpNumThreads: options.intraOpNumThreads,
    interOpNumThreads: options.interOpNumThreads,
    executionMode: options.executionMode,
    graphOptimizationLevel: options.graphOptimizationLevel,
    enableCpuMemArena: options.enableCpuMemArena,
    enableMemPattern: options.enableMemPattern,
    logSeverityLevel: 4, // fatal, as above
    extra: nested(options.configEntries),
  } as InferenceSession.SessionOptions;
}

/** `{'a.b.c': v}` as `{a: {b: {c: v}}}`, the form in which the binding takes session config entries. */
function nested(entries: Readonly<Record<string, string>>): Record<string, unknown> {
  const tree: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entries)) {
    const parts = key.split('.');
    let node = tree;
    for (const part of parts.slice(0, -1)) node = (node[part] ??= {}) as Record<string, unknown>;
    node[parts.at(-1)!] = value;
  }
  return tree;
}
