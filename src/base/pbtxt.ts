/**
 * Triton's `ModelConfig` between protobuf text format and plain objects, by `proto/model_config.proto`.
 *
 * Called by `engine/model-config.ts` (a model's config.pbtxt, the reply to a config request). Owns the one use of protobufjs
 * outside `grpc/`. Must not know what any field means.
 *
 * Plain object: field names as in the proto (snake_case), enums as labels, int64 as numbers, an absent field is absent (also
 * where proto3 itself could not tell it from a zero).
 */
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import textformat from 'protobufjs/ext/textformat.js';
import { invalid, printable, ServeError } from './errors.js';

/** The same relative path holds from src/base/ and from dist/base/. */
const PROTO = fileURLToPath(new URL('../../proto/model_config.proto', import.meta.url));

let modelConfigType: protobuf.Type | undefined;

/**
 * Parses protobuf text format. Throws INVALID_ARGUMENT with a message such as
 * `line 3: inference.ModelInput: unknown field 'dim'` (never a path).
 */
export function parsePbtxt(text: string): Record<string, unknown> {
  const type = modelConfig();
  try {
    // An editor on Windows may have put a byte order mark in front.
    return type.toObject(type.fromText(text.replace(/^\uFEFF/, '')), { enums: String, longs: Number });
  } catch (error) {
    throw describe(error, type, text);
  }
}

/**
 * The same object with every primitive field that is absent set to its proto3 default, as Triton prints configurations.
 * Absent messages and members of a oneof stay absent. Does not change `config`; throws INVALID_ARGUMENT where it is no ModelConfig.
 */
export function withDefaults(config: Record<string, unknown>): Record<string, unknown> {
  const type = modelConfig();
  let message: protobuf.Message;
  try {
    message = type.fromObject(config);
  } catch (error) {
    throw invalid(`not a model configuration: ${printable(messageOf(error), 200)}`);
  }
  return dropNulls(type.toObject(message, { enums: String, longs: Number, defaults: true })) as Record<string, unknown>;
}

function modelConfig(): protobuf.Type {
  if (modelConfigType === undefined) {
    textformat.install();
    const root = new protobuf.Root().loadSync(PROTO, { keepCase: true });
    modelConfigType = root.lookupType('inference.ModelConfig');
  }
  return modelConfigType;
}

/** protobufjs gives an absent message as null when asked for defaults. */
function dropNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(dropNulls);
  if (typeof value !== 'object' || value === null) return value;
  // fromEntries defines own properties, so that a map key "__proto__" stays a key.
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([key, member]) => [key, dropNulls(member)]),
  );
}

const LINE = / \(line (\d+)\)$/;

function describe(error: unknown, type: protobuf.Type, text: string): ServeError {
  const message = messageOf(error);
  const line = LINE.exec(message)?.[1] ?? findLine(message, type, text);
  const what = message.replace(LINE, '').replace(/^\./, '');
  return new ServeError('INVALID_ARGUMENT', `line ${line}: ${printable(what, 200)}`, { cause: error });
}

/**
 * Errors about a value ("enum value expected", "multiple values") come without a line. No token spans lines, so the line is the
 * last one of the shortest beginning of the text that fails in the same way; found in log(lines) parses.
 */
function findLine(message: string, type: protobuf.Type, text: string): number {
  const lines = text.split('\n');
  let passes = 0;
  let fails = lines.length;
  while (fails - passes > 1) {
    const middle = (passes + fails) >> 1;
    if (failure(type, lines.slice(0, middle).join('\n')) === message) fails = middle;
    else passes = middle;
  }
  return fails;
}

function failure(type: protobuf.Type, text: string): string | undefined {
  try {
    type.fromText(text);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
