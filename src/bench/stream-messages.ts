/**
 * The few messages that token streams need: requests for generated text and the text in their replies, gRPC and JSON.
 *
 * Called by `stream-process.ts`. Two gRPC contracts: the small one (`inference.v1`) and Triton's stream of the Open Inference Protocol,
 * with the inputs that its vLLM backend gives a model. A reader takes the text out of a reply and passes over the rest, as little as a
 * client can do.
 */
import { WireReader } from '../base/wire-reader.js';

export interface Generation {
  readonly model: string;
  readonly version: string;
  readonly text: string;
  /** Exactly so many: the end that the model would choose is ignored, and the likeliest token is taken each time. */
  readonly tokens: number;
}

const FRAME_BYTES = 5;

/** A delimited field, head and value; strings as UTF-8. */
function field(number: number, value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  const head = [(number << 3) | 2];
  let rest = bytes.length;
  for (; rest >= 0x80; rest >>>= 7) head.push((rest & 0x7f) | 0x80);
  head.push(rest);
  return Buffer.concat([Buffer.from(head), bytes]);
}

function framed(...fields: readonly Buffer[]): Buffer {
  const message = Buffer.concat(fields);
  const head = Buffer.alloc(FRAME_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** `inference.v1.ModelInferRequest` in its frame, for both of its methods. */
export function smallRequest({ model, version, text, tokens }: Generation): Buffer {
  const parameters = {
    max_tokens: String(tokens),
    ignore_eos: 'true',
    temperature: '0',
    exclude_input_in_output: 'true',
  };
  return framed(
    field(1, model),
    ...(version === '' ? [] : [field(2, version)]),
    field(3, Buffer.concat([field(1, 'text_input'), field(3, 'BYTES'), field(4, text)])),
    ...Object.entries(parameters).map(([key, value]) => field(4, Buffer.concat([field(1, key), field(2, value)]))),
  );
}

/** `inference.ModelInferRequest` in its frame, with the inputs of Triton's vLLM backend; for ModelStreamInfer. */
export function tritonRequest({ model, version, text, tokens }: Generation): Buffer {
  const sampling = JSON.stringify({ max_tokens: tokens, ignore_eos: true, temperature: 0 });
  const inputs = [
    { name: 'text_input', datatype: 'BYTES', bytes: element(text) },
    { name: 'stream', datatype: 'BOOL', bytes: Buffer.from([1]) },
    { name: 'sampling_parameters', datatype: 'BYTES', bytes: element(sampling) },
    { name: 'exclude_input_in_output', datatype: 'BOOL', bytes: Buffer.from([1]) },
  ];
  const one = field(3, Buffer.from([1]));
  return framed(
    field(1, model),
    ...(version === '' ? [] : [field(2, version)]),
    ...inputs.map(({ name, datatype }) => field(5, Buffer.concat([field(1, name), field(2, datatype), one]))),
    field(6, field(1, 'text_output')),
    ...inputs.map(({ bytes }) => field(7, bytes)),
  );
}

/** A BYTES element: its length, then its bytes. */
function element(text: string): Buffer {
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(bytes.length);
  return Buffer.concat([head, bytes]);
}

/** Of `inference.v1.ModelStreamResponse`. */
export function smallToken(message: Buffer): string {
  return (
    fieldsOf(message)
      .find(({ number }) => number === 1)
      ?.value.toString() ?? ''
  );
}

/** Of `inference.v1.ModelInferResponse`: its output's one element. */
export function smallText(message: Buffer): string {
  for (const { number, value } of fieldsOf(message)) {
    if (number !== 3) continue;
    const output = fieldsOf(value);
    if (output.find((one) => one.number === 1)?.value.toString() !== 'text_output') continue;
    return elementText(output.find((one) => one.number === 4)?.value);
  }
  return '';
}

/** Of `inference.ModelStreamInferResponse`; throws what the server says went wrong. */
export function tritonToken(message: Buffer): string {
  let text = '';
  for (const { number, value } of fieldsOf(message)) {
    if (number === 1 && value.length > 0) throw new Error(value.toString());
    // Its one output is asked for by name, so the first raw contents are its.
    if (number === 2) text = elementText(fieldsOf(value).find((one) => one.number === 6)?.value);
  }
  return text;
}

function elementText(contents: Buffer | undefined): string {
  return contents && contents.length > 4 ? contents.toString('utf8', 4, 4 + contents.readUInt32LE(0)) : '';
}

/** The delimited fields of a message, in order. */
function fieldsOf(message: Buffer): { number: number; value: Buffer }[] {
  const reader = new WireReader(message, 'a reply');
  const found: { number: number; value: Buffer }[] = [];
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if ((tag & 7) !== 2) {
      reader.skip(tag);
      continue;
    }
    const length = reader.length();
    found.push({ number: tag >>> 3, value: message.subarray(reader.pos, reader.pos + length) });
    reader.pos += length;
  }
  return found;
}

const jsonParameters = (tokens: number) => ({ max_tokens: tokens, ignore_eos: true, temperature: 0 });

/** Body of Triton's `generate` and `generate_stream`. */
export function generateBody({ text, tokens }: Generation): Buffer {
  const parameters = { ...jsonParameters(tokens), exclude_input_in_output: true };
  return Buffer.from(JSON.stringify({ text_input: text, parameters }));
}

/** Body of `/v1/completions`. */
export function completionBody({ model, text, tokens }: Generation): Buffer {
  return Buffer.from(JSON.stringify({ model, prompt: text, ...jsonParameters(tokens), stream: true }));
}

/** Of the data of an event, or of a whole `generate` reply; '' for what carries none, such as the end. */
export function jsonText(data: string): string {
  if (data === '[DONE]') return '';
  const event = JSON.parse(data) as { text_output?: string; choices?: { text?: string }[]; error?: unknown };
  if (event.error !== undefined) throw new Error(JSON.stringify(event.error));
  return event.text_output ?? event.choices?.[0]?.text ?? '';
}
