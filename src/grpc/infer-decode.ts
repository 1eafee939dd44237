/**
 * Decodes `inference.ModelInferRequest` from the bytes of a received message, in one pass and without copying tensors.
 *
 * Called by model-infer.ts. The message's memory is the call's until it is answered, so raw contents and packed floats are views on it.
 * It refuses what makes data ambiguous or missing, and what is over a cap; whether the model has such tensors is for the engine.
 */
import { nowMs } from '../base/clock.js';
import { invalid, printable, ServeError } from '../base/errors.js';
import { WireReader } from '../base/wire-reader.js';
import type { Parameters } from '../engine/types.js';
import type { DecodedInfer, DecodedOutput } from './decoded-infer.js';
import {
  MAX_PARAMETERS,
  MAX_TENSORS,
  NO_PARAMETERS,
  type ParameterMap,
  readInferParameter,
  readName,
  readShape,
  tooMany,
} from './infer-fields.js';
import { TypedContents } from './typed-contents.js';

/** Throws INVALID_ARGUMENT, UNIMPLEMENTED, RESOURCE_EXHAUSTED and WireError. */
export function decodeModelInferRequest(bytes: Buffer): DecodedInfer {
  return new RequestDecoder(bytes).decode();
}

interface InputDraft {
  name: string;
  datatype: string;
  readonly shape: number[];
  parameters: Parameters;
  data: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

class RequestDecoder {
  private readonly reader: WireReader;
  private modelName = '';
  private modelVersion = '';
  private id = '';
  private readonly inputs: InputDraft[] = [];
  private readonly outputs: DecodedOutput[] = [];
  private parameters: ParameterMap | undefined;
  private parameterCount = 0;
  /** Start and end of each raw entry in the message. */
  private readonly raw: number[] = [];
  /** Of each input with `contents`, start and end of every such field; they wait for datatype and model name. */
  private contents: (number[] | undefined)[] | undefined;

  constructor(bytes: Buffer) {
    this.reader = new WireReader(bytes, 'ModelInferRequest');
  }

  decode(): DecodedInfer {
    const decodeStart = nowMs();
    const { reader } = this;
    while (reader.pos < reader.limit) this.readField(reader.tag());
    const allocated = this.attachData();
    return {
      modelName: this.modelName,
      modelVersion: this.modelVersion,
      id: this.id,
      inputs: this.inputs,
      outputs: this.outputs,
      parameters: this.parameters ?? NO_PARAMETERS,
      arm: this.contents === undefined ? 'grpc_raw' : 'grpc_typed',
      byteLength: reader.bytes.length + allocated,
      note: '',
      decodeStart,
      decodeEnd: nowMs(),
    };
  }

  private readField(tag: number): void {
    const { reader } = this;
    switch (tag) {
      case 10:
        this.modelName = readName(reader, 'model name');
        break;
      case 18:
        this.modelVersion = readName(reader, 'model version');
        break;
      case 26:
        this.id = reader.text();
        break;
      case 34:
        if (++this.parameterCount > MAX_PARAMETERS) throw tooMany('parameters', MAX_PARAMETERS);
        this.parameters ??= new Map();
        readInferParameter(reader, this.parameters);
        break;
      case 42:
        if (this.inputs.length === MAX_TENSORS) throw tooMany('inputs', MAX_TENSORS);
        this.readInput();
        break;
      case 50:
        if (this.outputs.length === MAX_TENSORS) throw tooMany('outputs', MAX_TENSORS);
        this.outputs.push(readOutput(reader));
        break;
      case 58: {
        if (this.raw.length === 2 * MAX_TENSORS) throw tooMany('raw_input_contents entries', MAX_TENSORS);
        const length = reader.length();
        this.raw.push(reader.pos, reader.pos + length);
        reader.pos += length;
        break;
      }
      default:
        reader.skip(tag);
    }
  }

  private readInput(): void {
    const { reader } = this;
    const input: InputDraft = { name: '', datatype: '', shape: [], parameters: NO_PARAMETERS, data: NO_BYTES };
    let parameters: ParameterMap | undefined;
    let parameterCount = 0;
    let spans: number[] | undefined;
    const outer = reader.enter();
    while (reader.pos < reader.limit) {
      const tag = reader.tag();
      switch (tag) {
        case 10:
          input.name = readName(reader, 'input name');
          break;
        case 18:
          input.datatype = readName(reader, 'input datatype');
          break;
        case 24:
        case 26:
          readShape(reader, tag & 7, input.shape);
          break;
        case 34:
          if (++parameterCount > MAX_PARAMETERS) throw tooMany('parameters of an input', MAX_PARAMETERS);
          input.parameters = parameters ??= new Map();
          readInferParameter(reader, parameters);
          break;
        case 42: {
          const length = reader.length();
          spans ??= [];
          if (spans.length === 2 * MAX_TENSORS) throw tooMany('contents fields in an input', MAX_TENSORS);
          spans.push(reader.pos, reader.pos + length);
          reader.pos += length;
          break;
        }
        default:
          reader.skip(tag);
      }
    }
    reader.leave(outer);
    if (spans !== undefined) {
      this.contents ??= [];
      this.contents[this.inputs.length] = spans;
    }
    this.inputs.push(input);
  }

  /** Gives each input its bytes once everything has been read; returns the bytes of memory made for typed contents. */
  private attachData(): number {
    const { reader, raw, contents, modelName } = this;
    const typed = contents === undefined ? undefined : new TypedContents(reader, modelName);
    for (let index = 0; index < this.inputs.length; index++) {
      const input = this.inputs[index]!;
      if (input.parameters.size > 0)
        refuseSharedMemory(input.parameters, `input '${printable(input.name)}'`, modelName);
      const spans = contents?.[index];
      if (spans !== undefined) {
        if (raw.length > 0) {
          throw invalid(
            `contents field must not be specified when using raw_input_contents for '${printable(input.name)}' for model '${printable(modelName)}'`,
          );
        }
        input.data = typed!.toRaw(input, spans);
      } else if (2 * index < raw.length) input.data = reader.bytes.subarray(raw[2 * index]!, raw[2 * index + 1]!);
      else {
        throw invalid(
          `unable to find data for input tensor '${printable(input.name)}' for model '${printable(modelName)}' in request.`,
        );
      }
    }
    if (raw.length > 2 * this.inputs.length) {
      throw invalid(
        `expected ${this.inputs.length} raw_input_contents entries for model '${printable(modelName)}', got ${raw.length / 2}`,
      );
    }
    for (const { name, parameters } of this.outputs)
      if (parameters.size > 0) refuseSharedMemory(parameters, `output '${printable(name)}'`, modelName);
    return typed === undefined ? 0 : typed.allocated;
  }
}

function readOutput(reader: WireReader): DecodedOutput {
  let name = '';
  let parameters: ParameterMap | undefined;
  let parameterCount = 0;
  const outer = reader.enter();
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if (tag === 10) name = readName(reader, 'output name');
    else if (tag === 18) {
      if (++parameterCount > MAX_PARAMETERS) throw tooMany('parameters of an output', MAX_PARAMETERS);
      parameters ??= new Map();
      readInferParameter(reader, parameters);
    } else reader.skip(tag);
  }
  reader.leave(outer);
  if (parameters === undefined) return { name, parameters: NO_PARAMETERS, classification: 0 };
  return { name, parameters, classification: classesAsked(parameters) };
}

/** The `classification` parameter of an output, 0 without. */
function classesAsked(parameters: Parameters): number {
  const value = parameters.get('classification');
  if (value === undefined) return 0;
  if ((typeof value !== 'number' && typeof value !== 'bigint') || !Number.isInteger(Number(value)))
    throw invalid("invalid value type for 'classification' parameter, expected int64_param.");
  if (value <= 0) throw invalid(`invalid value for 'classification' parameter, expected > 0, got ${value}`);
  return Number(value);
}

function refuseSharedMemory(parameters: Parameters, where: string, modelName: string): void {
  for (const key of parameters.keys()) {
    if (!key.startsWith('shared_memory_')) continue;
    throw new ServeError(
      'UNIMPLEMENTED',
      `Client shared memory is disabled: ${where} for model '${printable(modelName)}' has parameter '${printable(key)}'`,
    );
  }
}
