/** What the tests of streaming RPCs send, and how they read what comes back. */
import type http2 from 'node:http2';
import { loadProtos } from '../../src/grpc/proto.js';
import { inferBytes, RawConnection, type RawReply, readReply, type Stub } from './front-end.js';

export const TOKENS = '/inference.v1.InferenceService/StreamingModelInfer';
export const STREAM = '/inference.GRPCInferenceService/ModelStreamInfer';

const protos = loadProtos() as never as Record<
  string,
  Record<string, { requestSerialize(message: object): Buffer; responseDeserialize(bytes: Buffer): unknown }>
>;

/** inference.v1.ModelInferRequest with one text. */
export function textRequest(model: string, text: string, parameters: Record<string, string> = {}): object {
  return { model_name: model, inputs: [{ name: 'input', raw_contents: Buffer.from(text) }], parameters };
}

export function textBytes(model: string, text: string): Buffer {
  return protos['inference.v1.InferenceService']!.StreamingModelInfer!.requestSerialize(textRequest(model, text));
}

/** ModelInferRequest with one BYTES input of one element. */
export function wordsRequest(id: string, text: string, extra: object = {}): object {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return {
    model_name: 'words',
    id,
    inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1] }],
    raw_input_contents: [Buffer.concat([length, bytes])],
    ...extra,
  };
}

export function wordsBytes(id: string, text: string, extra: object = {}): Buffer {
  return protos['inference.GRPCInferenceService']!.ModelInfer!.requestSerialize(wordsRequest(id, text, extra));
}

/** An ordinary request, named by its id, whose tensor is its id's length of bytes. */
export function echoBytes(id: string, model = 'echo', data = Buffer.from(id.padEnd(8, '.'))): Buffer {
  return inferBytes(model, data, { id });
}

/** A text that no test waits out: whatever the machine, its stream is under way when it is cut. */
export const ENDLESS = Array.from({ length: 300_000 }, () => 'w').join(' ');

export interface StreamMessage {
  readonly id: string;
  readonly error: string;
  /** What `text_output` or the echoed bytes say. */
  readonly text: string;
  readonly final: boolean | undefined;
  readonly timing: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: as proto-loader gives it
  readonly response: any;
}

/** A ModelStreamInferResponse as proto-loader gives it, made short. */
// biome-ignore lint/suspicious/noExplicitAny: as proto-loader gives it
export function shorten(message: any): StreamMessage {
  const { error_message: error, infer_response: response } = message;
  const raw: Buffer = response?.raw_output_contents[0] ?? Buffer.alloc(0);
  const isText = response?.outputs[0]?.name === 'text_output';
  return {
    id: response?.id ?? '',
    error,
    text: (isText ? raw.subarray(4) : raw).toString(),
    final: response?.parameters.triton_final_response?.bool_param,
    timing: response?.parameters.server_timing?.string_param,
    response,
  };
}

/** The messages in `body`, which must end with one of them. */
export function messagesOf(body: Buffer, rpc: 'StreamingModelInfer' | 'ModelStreamInfer'): unknown[] {
  const service = rpc === 'ModelStreamInfer' ? 'inference.GRPCInferenceService' : 'inference.v1.InferenceService';
  const messages: unknown[] = [];
  let at = 0;
  while (at < body.length) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    if (body[at] !== 0 || end > body.length) throw new Error(`no whole message at byte ${at} of ${body.length}`);
    messages.push(protos[service]![rpc]!.responseDeserialize(body.subarray(at + 5, end)));
    at = end;
  }
  return messages;
}

export function streamMessages({ body }: RawReply): StreamMessage[] {
  return messagesOf(body, 'ModelStreamInfer').map(shorten);
}

export interface Ended<Message> {
  readonly messages: Message[];
  readonly code: number;
  readonly details: string;
  readonly trailer: Record<string, unknown>;
}

// biome-ignore lint/suspicious/noExplicitAny: grpc-js's dynamic stubs have no types
export type GrpcStream = any;

/** Everything that a grpc-js stream gives until its status. */
export function collect<Message>(stream: GrpcStream, map: (message: never) => Message): Promise<Ended<Message>> {
  const messages: Message[] = [];
  return new Promise((resolve) => {
    stream.on('data', (message: never) => messages.push(map(message)));
    stream.on('error', () => undefined);
    stream.on(
      'status',
      (status: { code: number; details: string; metadata: { getMap(): Record<string, unknown> } }) => {
        const { code, details, metadata } = status;
        setImmediate(() => resolve({ messages, code, details, trailer: metadata.getMap() }));
      },
    );
  });
}

/** The tokens of one StreamingModelInfer with grpc-js. */
export function stream(stub: Stub, text: string, model = 'words', options: object = {}): Promise<Ended<Token>> {
  return collect(stub.StreamingModelInfer!(textRequest(model, text), options), (token: never) => token as Token);
}

export interface Token {
  readonly token: string;
  readonly logits: number;
}

/** A raw stream whose reader has stopped from the beginning: the peer's window is `bytes`. */
export function stalledConnection(port: number, bytes = 0): RawConnection {
  return new RawConnection(port, { settings: { initialWindowSize: bytes } });
}

/** When `stream` has closed, with its code. */
export function closed(stream: http2.ClientHttp2Stream): Promise<number> {
  return new Promise((resolve) => stream.on('close', () => resolve(stream.rstCode ?? 0)));
}

/** When a condition holds that the server's own turns bring about; fails where they don't. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn++) {
    if (turn > 2_000_000) throw new Error(`it never came about that ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export { readReply };
