/**
 * The probe: a process of its own that asks a server small things all the time, on connections of its own, and measures the longest
 * wait. Health is answered by the server's main thread alone, so its wait is that thread's stall; inferences are compared byte for byte.
 *
 * Started by probe.ts as `node probe.mjs <grpc port> <http port>`. On the message 'mark' it sends what it saw since the last one.
 */
import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:http2';

const PERIOD_MS = 20;
const [grpcPort, httpPort] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true, maxSockets: 2 });
const seen = { healthMs: 0, inferMs: 0, rounds: 0, wrong: [] };

const healthSession = connect(`http://127.0.0.1:${grpcPort}`);
const inferSession = connect(`http://127.0.0.1:${grpcPort}`);
for (const session of [healthSession, inferSession]) session.on('error', (error) => wrong(`connection: ${error.code}`));

function wrong(what) {
  if (seen.wrong.length < 20) seen.wrong.push(what);
}

function unary(session, path, message) {
  return new Promise((resolve) => {
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request(headers);
    const parts = [];
    let status;
    const take = (received) => {
      status = received['grpc-status'] ?? status;
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('data', (part) => parts.push(part));
    stream.on('error', (error) => wrong(`${path}: ${error.code}`));
    stream.on('close', () => resolve({ status, body: Buffer.concat(parts) }));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([head, message]));
  });
}

function http(method, path, body, headers = {}) {
  return new Promise((resolve) => {
    const request = httpRequest({ host: '127.0.0.1', port: httpPort, method, path, headers, agent }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(parts) }));
    });
    request.on('error', (error) => {
      wrong(`${path}: ${error.code}`);
      resolve({ status: 0, body: Buffer.alloc(0) });
    });
    request.end(body);
  });
}

const field = (number, bytes) => Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes]);
const text = (number, value) => field(number, Buffer.from(value));
const tensor = (name) => field(5, Buffer.concat([text(1, name), text(2, 'INT32'), field(3, Buffer.from([1, 16]))]));

/** Two tensors of 16 random numbers, and the two outputs that model `simple` must give. */
function numbers() {
  const views = Array.from({ length: 4 }, () => new Int32Array(16));
  const [a, b, sum, difference] = views;
  for (let i = 0; i < 16; i++) {
    a[i] = Math.floor(Math.random() * 1e6);
    b[i] = Math.floor(Math.random() * 1e6);
    sum[i] = a[i] + b[i];
    difference[i] = a[i] - b[i];
  }
  return views.map((view) => Buffer.from(view.buffer));
}

async function inferGrpc() {
  const [a, b, sum, difference] = numbers();
  const message = Buffer.concat([text(1, 'simple'), tensor('INPUT0'), tensor('INPUT1'), field(7, a), field(7, b)]);
  const { status, body } = await unary(inferSession, '/inference.GRPCInferenceService/ModelInfer', message);
  const expected = Buffer.concat([field(6, sum), field(6, difference)]);
  if (status !== '0' || !body.subarray(-expected.length).equals(expected)) wrong(`gRPC infer: status ${status}`);
}

async function inferRest() {
  const [a, b, sum, difference] = numbers();
  const input = (name) => ({ name, datatype: 'INT32', shape: [1, 16], parameters: { binary_data_size: 64 } });
  const head = JSON.stringify({
    inputs: [input('INPUT0'), input('INPUT1')],
    parameters: { binary_data_output: true },
  });
  const body = Buffer.concat([Buffer.from(head), a, b]);
  const headers = { 'inference-header-content-length': head.length, 'content-length': body.length };
  const reply = await http('POST', '/v2/models/simple/infer', body, headers);
  const expected = Buffer.concat([sum, difference]);
  if (reply.status !== 200 || !reply.body.subarray(-128).equals(expected)) wrong(`REST infer: ${reply.status}`);
}

async function health() {
  const [grpc, rest] = await Promise.all([
    unary(healthSession, '/grpc.health.v1.Health/Check', Buffer.alloc(0)),
    http('GET', '/v2/health/ready'),
  ]);
  if (grpc.status !== '0' || grpc.body.toString('hex') !== '00000000020801') wrong(`gRPC health: ${grpc.status}`);
  if (rest.status !== 200) wrong(`REST health: ${rest.status}`);
}

/** Rounds of `ask` for ever, one every PERIOD_MS or as fast as they are answered. */
async function loop(key, ask) {
  for (;;) {
    const began = performance.now();
    await ask();
    const tookMs = performance.now() - began;
    seen[key] = Math.max(seen[key], tookMs);
    seen.rounds++;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, PERIOD_MS - tookMs)));
  }
}

process.on('message', async () => {
  // A round of each after the mark: nothing that was on its way is missed, and the answer proves that the server lives.
  await Promise.all([health(), inferGrpc()]);
  process.send({ ...seen });
  Object.assign(seen, { healthMs: 0, inferMs: 0, rounds: 0, wrong: [] });
});
process.on('disconnect', () => process.exit(0));

await Promise.all([health(), inferGrpc(), inferRest()]);
Object.assign(seen, { healthMs: 0, inferMs: 0 });
void loop('healthMs', health);
void loop('inferMs', () => Promise.all([inferGrpc(), inferRest()]));
process.send('ready');
