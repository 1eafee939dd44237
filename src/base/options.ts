/**
 * The table of options: one row each, with the kind of its value, its default and the sentence that helps to choose.
 *
 * Called by `config.ts` only. A row's key is the field of `Config`; the flag (`--http-port`) and the variable
 * (`TENSORWIRE_HTTP_PORT`) follow from it, so the three cannot disagree. Words and meanings are Triton's where Triton has
 * the option. Must not read the environment or hold rules between options (those are in `config.ts`).
 */

import {
  address,
  backendSettings,
  choice,
  directories,
  directoryToMake,
  file,
  flag,
  integer,
  type Kind,
  origins,
  port,
  text,
} from './option-kind.js';

export interface Row<T> {
  readonly group: string;
  readonly kind: Kind<T>;
  readonly fallback: T;
  /** How `--help` names a default that is worked out elsewhere. */
  readonly fallbackText?: string;
  readonly sentence: string;
  /** Other flags that mean this one. */
  readonly aliases?: readonly string[];
}

const INT_MAX = 2 ** 31 - 1;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

type Rest<T> = Pick<Row<T>, 'fallbackText' | 'aliases'>;

/** `row` for the options of one heading of `--help`. */
function rows(group: string) {
  return <T>(kind: Kind<T>, fallback: NoInfer<T>, sentence: string, rest: Rest<T> = {}): Row<T> => ({
    ...rest,
    group,
    kind,
    fallback,
    sentence,
  });
}

const models = rows('Models:');
const http = rows('HTTP (REST):');
const grpc = rows('gRPC:');
const metrics = rows('Metrics:');
const compute = rows('Compute and memory:');
const generated = rows('Generated text:');
const limits = rows('Queues and limits:');
const life = rows('Start, stop and log:');

const optionalFile: Kind<string | undefined> = file;
const optionalAddress: Kind<string | undefined> = address;
const optionalDirectory: Kind<string | undefined> = directoryToMake;

export const OPTIONS = {
  modelRepository: models(directories, [], "Directory of models in Triton's layout; repeat it to serve several.", {
    aliases: ['model-store'],
    fallbackText: 'the models that come with tensorwire',
  }),
  modelControlMode: models(choice('none'), 'none', 'Models are loaded at start; the other modes are not built yet.'),
  loadOnFirstUse: models(
    flag,
    false,
    'Set it to load models at their first request and not at start; a config.pbtxt may say it for its own with the parameter load_on_first_use.',
  ),
  disableAutoCompleteConfig: models(
    flag,
    false,
    'Set it to refuse models whose config.pbtxt leaves out what could be read from the ONNX file.',
    { aliases: ['strict-model-config'] },
  ),
  backendConfig: models(
    backendSettings,
    {},
    'Setting for all models: onnxruntime,default-max-batch-size=4, or an ONNX Runtime session option by its name.',
    { fallbackText: 'none' },
  ),
  strictReadiness: models(flag, true, 'Ready only when all models are; set it to false to be ready with some of them.'),
  exitOnError: models(
    flag,
    false,
    'Set it to exit when a model fails to load, as Triton does; else the others serve and the index says why it failed.',
  ),
  modelCacheDirectory: models(
    optionalDirectory,
    undefined,
    'Where optimized weights are kept between starts; a fast disk that this user alone can write to.',
    { fallbackText: "a directory of this user under the system's temporary one" },
  ),

  id: rows('Server:')(text, 'tensorwire', 'Name of this server in its metadata.'),

  allowHttp: http(flag, true, 'Set it to false to serve gRPC alone.'),
  httpPort: http(port, 8000, 'Port for REST; 0 takes any free one.'),
  httpAddress: http(address, '0.0.0.0', 'Set it to 127.0.0.1 to be reached from this machine only.'),
  httpMaxInputSize: http(
    integer(1, INT_MAX),
    64 * MIB,
    'Largest request body in bytes, after decompression, and largest reply; raise it for larger tensors.',
  ),
  httpCorsOrigin: http(
    origins,
    [],
    'Origin whose pages may call this server from a browser; repeat it, or * for all.',
    {
      fallbackText: 'none',
    },
  ),
  httpUseSsl: http(flag, false, 'Set it to serve HTTPS; needs the certificate and the key.'),
  httpUseSslMutual: http(flag, false, 'Set it to serve HTTPS to clients with a certificate only; needs the root too.'),
  httpServerCert: http(optionalFile, undefined, "PEM file of the server's certificate chain."),
  httpServerKey: http(optionalFile, undefined, "PEM file of the server's private key."),
  httpRootCert: http(optionalFile, undefined, 'PEM file of the authorities that sign client certificates.'),

  allowGrpc: grpc(flag, true, 'Set it to false to serve REST alone.'),
  grpcPort: grpc(port, 8001, 'Port for gRPC; 0 takes any free one.'),
  grpcAddress: grpc(address, '0.0.0.0', 'Set it to 127.0.0.1 to be reached from this machine only.'),
  grpcMaxInputSize: grpc(
    integer(1, INT_MAX),
    64 * MIB,
    'Largest request message in bytes, after decompression, and largest reply; raise it for larger tensors.',
  ),
  grpcMaxConcurrentStreams: grpc(
    integer(1, INT_MAX),
    1024,
    'Most calls at once on one connection; lower it where clients are not trusted.',
  ),
  grpcKeepaliveTime: grpc(
    integer(1, INT_MAX),
    7_200_000,
    'Milliseconds of silence before a ping; lower it below the idle limit of a proxy in between.',
  ),
  grpcKeepaliveTimeout: grpc(integer(1, INT_MAX), 20_000, "Milliseconds to wait for that ping's answer."),
  grpcMaxConnectionAge: grpc(
    integer(0, INT_MAX),
    0,
    'Milliseconds after which a client must connect anew, so that load spreads over new replicas; 0 never asks.',
  ),
  grpcMaxConnectionAgeGrace: grpc(
    integer(0, INT_MAX),
    0,
    'Milliseconds that calls still get on a connection past its age; 0 lets them finish.',
  ),
  grpcUseSsl: grpc(flag, false, 'Set it to serve TLS; needs the certificate and the key.'),
  grpcUseSslMutual: grpc(flag, false, 'Set it to serve TLS to clients with a certificate only; needs the root too.'),
  grpcServerCert: grpc(optionalFile, undefined, "PEM file of the server's certificate chain."),
  grpcServerKey: grpc(optionalFile, undefined, "PEM file of the server's private key."),
  grpcRootCert: grpc(optionalFile, undefined, 'PEM file of the authorities that sign client certificates.'),

  allowMetrics: metrics(flag, true, 'Set it to false to keep no metrics port open.'),
  metricsPort: metrics(port, 8002, 'Port for Prometheus; 0 takes any free one.'),
  metricsAddress: metrics(optionalAddress, undefined, 'Address that Prometheus scrapes.', {
    fallbackText: 'that of HTTP',
  }),
  latencyBudget: metrics(
    flag,
    true,
    'Set it to false to spare the last percents of speed: replies say no Server-Timing, and requests make no histograms.',
  ),

  workerCount: compute(
    integer(0, 256),
    0,
    'Batches that may run at once; 0 chooses from the cores there are (at most 4).',
  ),
  intraOpThreadCount: compute(
    integer(0, 256),
    0,
    'Threads for one batch; raise it with fewer workers when single requests must be quick. 0 shares out the cores.',
  ),
  jsonWorkerCount: compute(
    integer(1, 16),
    1,
    'Threads that parse and print large JSON tensors; raise it for JSON clients.',
  ),
  preprocessWorkerCount: compute(
    integer(0, 64),
    0,
    'Threads that tokenize texts and decode pictures, started when a model needs them; 0 takes half as many as there are cores.',
  ),
  sharedMemoryPoolByteSize: compute(
    integer(MIB, 64 * GIB),
    256 * MIB,
    'Shared memory for running batches; raise it when batches are large or workers many.',
  ),
  weightSharingMinByteSize: compute(
    integer(0, 1024 * GIB),
    64 * MIB,
    'Models from this size on are loaded once for all workers; lower it when memory is short, at the price of slower starts.',
  ),
  modelMemoryBudget: compute(
    integer(0, 1024 * GIB),
    0,
    'Most bytes of memory for loaded models, as measured; beyond it the least recently used idle one is unloaded until it is asked for again. 0 sets no bound.',
  ),
  initialOldSpaceSizeMb: compute(
    integer(0, 65_536),
    512,
    'Memory that the collector leaves alone, in MiB; raise it when large messages make it busy. 0 leaves it to V8.',
  ),

  maxSequences: generated(
    integer(1, 256),
    16,
    'Streams that one model runs together, others wait; raise it for throughput, lower it for the pace of each. A config.pbtxt may say it with the parameter max_sequences.',
  ),
  kvCacheByteSize: generated(
    integer(MIB, 1024 * GIB),
    512 * MIB,
    'Most bytes of keys and values for the running streams of one model, taken as they grow; parameter kv_cache_byte_size.',
  ),
  prefixCacheByteSize: generated(
    integer(0, 1024 * GIB),
    64 * MIB,
    'Most bytes of those that are kept for prompts that begin alike, for one model; parameter prefix_cache_byte_size. 0 keeps none.',
  ),
  maxSequenceLength: generated(
    integer(0, INT_MAX),
    0,
    'Most tokens of a prompt and its text together; lower it when long ones take too much. 0 leaves it to the model; parameter max_sequence_length.',
  ),
  streamStallTimeout: generated(
    integer(1, 86_400),
    30,
    'Seconds that a client may read nothing while its text waits for it; then the stream ends and its memory is free.',
  ),

  maxInflightByteSize: limits(
    integer(MIB, 64 * GIB),
    256 * MIB,
    'Most bytes of requests held at once; more are refused. Keep it below the memory you can spare.',
  ),
  maxTextByteSize: limits(
    integer(1, INT_MAX),
    MIB / 4,
    "Longest text in bytes for a model that tokenizes; within it, text past the model's own limit of tokens is truncated.",
  ),
  maxImagePixels: limits(
    integer(1, INT_MAX),
    64 * MIB,
    'Largest picture in pixels, width times height, that is decoded; a file that claims more is refused.',
  ),
  defaultMaxQueueSize: limits(
    integer(1, 1_000_000),
    1024,
    'Most requests that wait for one model unless its config.pbtxt says otherwise; lower it to refuse sooner.',
  ),
  defaultMaxQueueByteSize: limits(integer(MIB, 64 * GIB), 128 * MIB, 'Most bytes of requests that wait for one model.'),

  exitTimeoutSecs: life(
    integer(0, 86_400),
    30,
    'Seconds that accepted requests get to finish after SIGTERM; keep it below the grace of your orchestrator.',
  ),
  restartLimit: life(
    integer(0, 1000),
    3,
    'Restarts after native crashes within 60 seconds; one crash more ends it. 0 leaves restarting to others.',
  ),
  logLevel: life(
    choice('trace', 'debug', 'info', 'warn', 'error', 'silent'),
    'info',
    'Least severe line to log; debug names every refused request.',
  ),
  logVerbose: life(integer(0, 9), 0, "Triton's way to say it: 1 logs debug lines, 2 and more trace lines too."),
  logFormat: life(
    choice('auto', 'text', 'json'),
    'auto',
    'Lines for people or for machines; auto asks if stderr is a terminal.',
  ),
};
