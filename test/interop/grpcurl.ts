/**
 * grpcurl, which knows the server by reflection alone: no proto file at hand. It prints the names of the fields as the protos have
 * them, in which requests are written too.
 *
 * Called by `run.ts`. Takes grpcurl from PATH, else builds it once into `.venv/go`.
 */
import { deepStrictEqual, match, ok } from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lastLine } from './python.js';
import type { Outcome, Target } from './run.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BIN = join(ROOT, '.venv/go');
const VERSION = 'v1.9.3';

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Case {
  readonly name: string;
  readonly args: readonly string[];
  /** The method or symbol, behind the address. */
  readonly what?: readonly string[];
  readonly stdin?: string;
  check(ran: Ran): void;
}

const int32 = (values: readonly number[]): string => Buffer.from(Int32Array.from(values).buffer).toString('base64');
const FIRST = Array.from({ length: 16 }, (_, i) => i);
const OPEN = 'inference.GRPCInferenceService';
const V1 = 'inference.v1.InferenceService';
const SIMPLE_INPUTS = ['INPUT0', 'INPUT1'].map((name) => ({ name, datatype: 'INT32', shape: ['1', '16'] }));

const answers = (check: (json: unknown) => void) => (ran: Ran) => {
  deepStrictEqual({ status: ran.status, stderr: ran.stderr }, { status: 0, stderr: '' });
  check(JSON.parse(ran.stdout));
};
const says = (check: (text: string) => void) => (ran: Ran) => {
  deepStrictEqual({ status: ran.status, stderr: ran.stderr }, { status: 0, stderr: '' });
  check(ran.stdout);
};

const CASES: readonly Case[] = [
  {
    name: 'list names all services',
    args: [],
    what: ['list'],
    check: says((text) =>
      deepStrictEqual(
        text
          .trim()
          .split('\n')
          .filter((name) => !name.startsWith('grpc.reflection')),
        ['grpc.health.v1.Health', OPEN, V1],
      ),
    ),
  },
  {
    name: 'list names the RPCs of a service',
    args: [],
    what: ['list', V1],
    check: says((text) =>
      deepStrictEqual(
        text.trim().split('\n'),
        ['ModelInfer', 'MultimodalInfer', 'ServerMetadata', 'StreamingModelInfer'].map((rpc) => `${V1}.${rpc}`),
      ),
    ),
  },
  {
    name: 'describe shows a service',
    args: [],
    what: ['describe', OPEN],
    check: says((text) =>
      match(text, /rpc ModelInfer \( \.inference\.ModelInferRequest \) returns \( \.inference\.ModelInferResponse \);/),
    ),
  },
  {
    name: 'describe shows the contract of inference.v1, number by number',
    args: [],
    what: ['describe', 'inference.v1.TensorData'],
    check: says((text) => {
      for (const field of [
        /string name = 1;/,
        /repeated int64 shape = 2;/,
        /string datatype = 3;/,
        /bytes raw_contents = 4;/,
      ])
        match(text, field);
    }),
  },
  {
    name: 'describe shows a message with its map and its oneof',
    args: [],
    what: ['describe', 'inference.InferParameter'],
    check: says((text) => match(text, /oneof parameter_choice/)),
  },
  {
    name: 'ServerLive',
    args: [],
    what: [`${OPEN}/ServerLive`],
    check: answers((json) => deepStrictEqual(json, { live: true })),
  },
  {
    name: 'ModelInfer with raw contents as base64',
    args: [
      '-d',
      JSON.stringify({
        model_name: 'simple',
        id: '1',
        inputs: SIMPLE_INPUTS,
        raw_input_contents: [int32(FIRST), int32(FIRST)],
      }),
    ],
    what: [`${OPEN}/ModelInfer`],
    check: answers((json) => {
      deepStrictEqual(json, {
        model_name: 'simple',
        model_version: '1',
        id: '1',
        outputs: ['OUTPUT0', 'OUTPUT1'].map((name) => ({ name, datatype: 'INT32', shape: ['1', '16'] })),
        raw_output_contents: [int32(FIRST.map((value) => value * 2)), int32(FIRST.map(() => 0))],
      });
    }),
  },
  {
    name: 'ModelInfer with typed contents as JSON',
    args: [
      '-d',
      JSON.stringify({
        model_name: 'simple',
        inputs: SIMPLE_INPUTS.map((input) => ({ ...input, contents: { int_contents: FIRST } })),
      }),
    ],
    what: [`${OPEN}/ModelInfer`],
    check: answers((json) =>
      deepStrictEqual(
        (json as { raw_output_contents: string[] }).raw_output_contents[0],
        int32(FIRST.map((value) => value * 2)),
      ),
    ),
  },
  {
    name: 'the sample of digits, from standard input, is read as a seven',
    args: ['-d', '@'],
    what: [`${OPEN}/ModelInfer`],
    stdin: readFileSync(join(ROOT, 'models/digits/sample.grpc.json'), 'utf8'),
    check: answers((json) => {
      const { outputs, raw_output_contents } = json as { outputs: { name: string }[]; raw_output_contents: string[] };
      const label = Buffer.from(raw_output_contents[outputs.findIndex(({ name }) => name === 'label')]!, 'base64');
      deepStrictEqual(label.readBigInt64LE(), 7n);
    }),
  },
  {
    name: 'ModelInfer of inference.v1',
    args: [
      '-d',
      JSON.stringify({
        model_name: 'simple',
        inputs: SIMPLE_INPUTS.map((input) => ({ ...input, raw_contents: int32(FIRST) })),
      }),
    ],
    what: [`${V1}/ModelInfer`],
    check: answers((json) =>
      deepStrictEqual(
        (json as { outputs: { raw_contents: string }[] }).outputs[0]!.raw_contents,
        int32(FIRST.map((value) => value * 2)),
      ),
    ),
  },
  {
    name: 'MultimodalInfer of inference.v1',
    args: ['-d', JSON.stringify({ model_name: 'identity_BYTES', inputs: [{ name: 'INPUT0', text: 'grüße' }] })],
    what: [`${V1}/MultimodalInfer`],
    check: answers((json) => {
      const [output] = (json as { outputs: { raw_contents: string }[] }).outputs;
      deepStrictEqual(Buffer.from(output!.raw_contents, 'base64').subarray(4).toString(), 'grüße');
    }),
  },
  {
    name: 'ServerMetadata of inference.v1',
    args: [],
    what: [`${V1}/ServerMetadata`],
    check: answers((json) => deepStrictEqual((json as { name: string }).name, 'interop')),
  },
  {
    name: 'ModelConfig',
    args: ['-d', '{"name":"simple"}'],
    what: [`${OPEN}/ModelConfig`],
    check: answers((json) =>
      deepStrictEqual((json as { config: { max_batch_size: number } }).config.max_batch_size, 8),
    ),
  },
  {
    name: 'health of a service',
    args: ['-d', JSON.stringify({ service: OPEN })],
    what: ['grpc.health.v1.Health/Check'],
    check: answers((json) => deepStrictEqual(json, { status: 'SERVING' })),
  },
  {
    name: 'an unknown model is NotFound',
    args: ['-d', '{"model_name":"nothing"}'],
    what: [`${OPEN}/ModelInfer`],
    check: ({ status, stderr }) => {
      ok(status !== 0);
      match(stderr, /Code: NotFound\s+Message: .*Request for unknown model: 'nothing' is not found/);
    },
  },
  {
    name: 'the budget is in the trailer',
    args: ['-v'],
    what: [`${OPEN}/ServerReady`],
    check: says((text) => match(text, /Response trailers received:\s+server-timing: .*total;dur=\d/)),
  },
];

export async function runGrpcurl({ grpcPort }: Target): Promise<Outcome> {
  const grpcurl = find();
  if (typeof grpcurl !== 'string') return grpcurl;
  const failures: string[] = [];
  for (const { name, args, what = [], stdin, check } of CASES) {
    const all = ['-plaintext', '-connect-timeout', '60', '-max-time', '240', ...args, `127.0.0.1:${grpcPort}`, ...what];
    const { status, stdout, stderr } = spawnSync(grpcurl, all, { encoding: 'utf8', ...(stdin && { input: stdin }) });
    try {
      check({ status, stdout, stderr });
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message}\n${stdout}${stderr}`);
    }
  }
  return { passed: CASES.length - failures.length, failed: failures.length, failures };
}

function find(): string | { skipped: string } {
  const built = join(BIN, process.platform === 'win32' ? 'grpcurl.exe' : 'grpcurl');
  for (const candidate of ['grpcurl', built]) {
    if (spawnSync(candidate, ['-version']).status === 0) return candidate;
  }
  try {
    const env = { ...process.env, GOBIN: BIN, GOFLAGS: '' };
    execFileSync('go', ['install', `github.com/fullstorydev/grpcurl/cmd/grpcurl@${VERSION}`], { env, stdio: 'pipe' });
  } catch (error) {
    return { skipped: `grpcurl is not on PATH and can't be built with go: ${lastLine(error)}` };
  }
  return existsSync(built) ? built : { skipped: 'go built no grpcurl' };
}
