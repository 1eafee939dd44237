/**
 * One request in each of the encodings that the server speaks, and the reply back as raw tensors: so that what differs between two
 * replies is what the server made different.
 *
 * Called by end-to-end tests. Owns its gRPC channels; close it.
 */
import type { Datatype } from '../../src/base/datatype.js';
import { call, connect } from '../grpc/front-end.js';
import type { TestServer } from '../support/server.js';
import { elementsToRaw, rawToContents, rawToJson } from './tensor-text.js';

export const ARMS = ['REST JSON', 'REST binary', 'gRPC raw', 'gRPC typed', 'inference.v1'] as const;
export type ArmName = (typeof ARMS)[number];

/** Those that carry a tensor's bytes as they are. */
export const RAW_ARMS: readonly ArmName[] = ['REST binary', 'gRPC raw', 'inference.v1'];

export interface RawTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Little-endian, row-major; BYTES with length prefixes. */
  readonly data: Uint8Array;
}

export interface ArmClient {
  /** Outputs in the order of the reply; rejects with the server's own words. */
  infer(arm: ArmName, model: string, inputs: readonly RawTensor[]): Promise<RawTensor[]>;
  close(): void;
}

export function createArmClient(server: Pick<TestServer, 'httpPort' | 'grpcPort'>): ArmClient {
  const open = connect('open', server.grpcPort);
  const v1 = connect('v1', server.grpcPort);
  const url = (model: string): string => `http://127.0.0.1:${server.httpPort}/v2/models/${model}/infer`;

  const arms: Record<
    ArmName,
    ArmClient['infer'] extends (arm: ArmName, ...rest: infer R) => infer P ? (...rest: R) => P : never
  > = {
    async 'REST JSON'(model, inputs) {
      const list = inputs.map(({ name, datatype, shape, data }) => {
        const head = JSON.stringify({ name, datatype, shape }).slice(0, -1);
        return `${head},"data":${rawToJson(datatype, data)}}`;
      });
      const response = await fetch(url(model), { method: 'POST', body: `{"inputs":[${list}]}` });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return parseJsonReply(text);
    },
    async 'REST binary'(model, inputs) {
      const head = Buffer.from(
        JSON.stringify({
          inputs: inputs.map(({ data, ...input }) => ({ ...input, parameters: { binary_data_size: data.length } })),
          parameters: { binary_data_output: true },
        }),
      );
      const response = await fetch(url(model), {
        method: 'POST',
        body: Uint8Array.from(Buffer.concat([head, ...inputs.map(({ data }) => data)])),
        headers: { 'inference-header-content-length': String(head.length) },
      });
      const body = Buffer.from(await response.arrayBuffer());
      if (!response.ok) throw new Error(body.toString());
      return parseBinaryReply(body, Number(response.headers.get('inference-header-content-length')));
    },
    async 'gRPC raw'(model, inputs) {
      const heads = inputs.map(({ data: _, ...head }) => head);
      return grpc(open, { model_name: model, inputs: heads, raw_input_contents: inputs.map(({ data }) => data) });
    },
    async 'gRPC typed'(model, inputs) {
      const typed = inputs.map(({ data, ...head }) => ({ ...head, contents: rawToContents(head.datatype, data) }));
      return grpc(open, { model_name: model, inputs: typed });
    },
    async 'inference.v1'(model, inputs) {
      const tensors = inputs.map(({ data, ...head }) => ({ ...head, raw_contents: data }));
      const { error, response } = await call(v1, 'ModelInfer', { model_name: model, inputs: tensors });
      if (error) throw error;
      return response.outputs.map(
        ({ raw_contents: data, ...head }: Omit<RawTensor, 'data'> & { raw_contents: Buffer }) => ({
          ...head,
          data,
        }),
      );
    },
  };
  return {
    infer: (arm, model, inputs) => arms[arm](model, inputs),
    close() {
      open.close();
      v1.close();
    },
  };
}

async function grpc(stub: ReturnType<typeof connect>, request: object): Promise<RawTensor[]> {
  const { error, response } = await call(stub, 'ModelInfer', request);
  if (error) throw error;
  return response.outputs.map(({ name, datatype, shape }: RawTensor, i: number) => ({
    name,
    datatype,
    shape,
    data: response.raw_output_contents[i],
  }));
}

/** A reply as text: its numbers are quoted first, as JSON.parse would round the large ones and refuse `NaN`. */
function parseJsonReply(text: string): RawTensor[] {
  const quoted = text.replace(
    /"data":\[([^\]"]+)\]/g,
    (_, list: string) => `"data":["${list.replaceAll(',', '","')}"]`,
  );
  const { outputs } = JSON.parse(quoted) as { outputs: (Omit<RawTensor, 'data'> & { data: string[] })[] };
  return outputs.map(({ name, datatype, shape, data }) => ({
    name,
    datatype,
    shape,
    data: elementsToRaw(datatype, data),
  }));
}

function parseBinaryReply(body: Buffer, headLength: number): RawTensor[] {
  const { outputs } = JSON.parse(body.toString('utf8', 0, headLength)) as {
    outputs: (Omit<RawTensor, 'data'> & { parameters: { binary_data_size: number } })[];
  };
  let at = headLength;
  const tensors = outputs.map(({ name, datatype, shape, parameters }) => {
    const data = body.subarray(at, (at += parameters.binary_data_size));
    return { name, datatype, shape, data };
  });
  if (at !== body.length) throw new Error(`${body.length - at} bytes behind the tensors`);
  return tensors;
}
