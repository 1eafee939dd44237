/**
 * What Prometheus sees of the protocols: durations, serialization, payloads and connections, so that gRPC and REST can be compared.
 *
 * Called by `ports.ts`: registered once, and told of each finished request. Labels are closed sets: routes and RPCs by their own names,
 * whatever is none of them as `other`, statuses by code. Models are `engine/model-metrics.ts`'s.
 */
import { BucketCounts } from './base/bucket-counts.js';
import { ConnectionCounts } from './base/connection-counts.js';
import type { Labels, Metrics } from './base/metrics.js';
import type { FinishedRequest, RequestObserver } from './engine/finished-request.js';

type Protocol = FinishedRequest['protocol'];
const PROTOCOLS: readonly Protocol[] = ['grpc', 'rest'];

/** Each has the bounds that people expect (1, 5, 10, ...), and more between, below and above, where this server's figures are. */
const DURATION_MS = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];
const JSON_MS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100];
const PROTOBUF_MS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const PAYLOAD_BYTES = [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
const SETUP_MS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250];

/** What a request is counted under that meant nothing there is. */
const OTHER = 'other';
/** The encoding of what was no inference, or none that could be decoded. */
const NO_ARM = 'none';

export type Connections = Readonly<Record<Protocol, ConnectionCounts>>;

/** The connections of both ports, shown from now on. */
export function registerConnectionMetrics(metrics: Metrics): Connections {
  const counts = { grpc: new ConnectionCounts(SETUP_MS), rest: new ConnectionCounts() };
  const labels = ['protocol'];
  const each = (value: (own: ConnectionCounts) => number) => () =>
    PROTOCOLS.map((protocol): [Labels, number] => [{ protocol }, value(counts[protocol])]);
  metrics.counter(
    { name: 'tensorwire_connections_opened_total', help: 'TCP connections accepted', labels },
    each(({ opened }) => opened),
  );
  metrics.counter(
    { name: 'tensorwire_connections_closed_total', help: 'TCP connections closed', labels },
    each(({ closed }) => closed),
  );
  for (const protocol of PROTOCOLS) {
    metrics.gauge(
      { name: `${protocol}_active_connections`, help: `Connections open on the port of ${NAMES[protocol]}` },
      () => [[{}, counts[protocol].active]],
    );
  }
  metrics.bucketHistogram(
    {
      name: 'grpc_connection_setup_ms',
      help: "From accepting a connection to the peer's first HTTP/2 SETTINGS, TLS included, in milliseconds",
    },
    () => [[{}, counts.grpc.setupMs]],
  );
  return counts;
}

const NAMES: Readonly<Record<Protocol, string>> = { grpc: 'gRPC', rest: 'REST' };

/** Histograms and sums of requests; what it returns takes each request. */
export function registerProtocolMetrics(metrics: Metrics): RequestObserver {
  const observers = {
    grpc: observeGrpc(metrics),
    rest: observeRest(metrics),
  };
  const observeTraffic = registerTraffic(metrics);
  return (request) => {
    const { decoded, lastByte, scattered, encoded } = request.timeline;
    // Times that are only stamped where there was a message of the kind that is meant.
    const decodeMs = decoded > 0 ? Math.max(0, decoded - lastByte) : NaN;
    const encodeMs = scattered > 0 && request.arm !== undefined ? Math.max(0, encoded - scattered) : NaN;
    observers[request.protocol](request, decodeMs, encodeMs);
    observeTraffic(request, decodeMs, encodeMs);
  };
}

type ObserveTimes = (request: FinishedRequest, decodeMs: number, encodeMs: number) => void;

function observeRest(metrics: Metrics): ObserveTimes {
  const durations = new OutcomeCounts(DURATION_MS);
  const serialization = new BucketCounts(JSON_MS);
  const deserialization = new BucketCounts(JSON_MS);
  const payloads = new BucketCounts(PAYLOAD_BYTES);
  metrics.bucketHistogram(
    {
      name: 'rest_request_duration_ms',
      help: "From a request's head to its encoded reply, in milliseconds; status 499 is a client that left",
    },
    () => durations.read('endpoint', 'status_code'),
  );
  metrics.bucketHistogram(
    { name: 'rest_json_serialization_ms', help: 'Printing the replies of inferences as JSON, in milliseconds' },
    () => [[{}, serialization]],
  );
  metrics.bucketHistogram(
    { name: 'rest_json_deserialization_ms', help: 'Parsing the JSON of inferences, in milliseconds' },
    () => [[{}, deserialization]],
  );
  metrics.bucketHistogram({ name: 'rest_payload_bytes', help: 'Bodies of replies in bytes, as sent' }, () => [
    [{}, payloads],
  ]);
  return (request, decodeMs, encodeMs) => {
    durations.at(request).observe(durationOf(request));
    payloads.observe(request.responseBytes);
    if (request.arm !== 'rest_json') return;
    deserialization.observe(decodeMs);
    serialization.observe(encodeMs);
  };
}

function observeGrpc(metrics: Metrics): ObserveTimes {
  const durations = new OutcomeCounts(DURATION_MS);
  const serialization = new BucketCounts(PROTOBUF_MS);
  const deserialization = new BucketCounts(PROTOBUF_MS);
  metrics.bucketHistogram(
    { name: 'grpc_request_duration_ms', help: "From a call's headers to its encoded reply, in milliseconds" },
    () => durations.read('rpc_method', 'status'),
  );
  metrics.bucketHistogram(
    { name: 'grpc_protobuf_serialization_ms', help: 'Writing the replies of inferences as protobuf, in milliseconds' },
    () => [[{}, serialization]],
  );
  metrics.bucketHistogram(
    { name: 'grpc_protobuf_deserialization_ms', help: 'Reading the protobuf of inferences, in milliseconds' },
    () => [[{}, deserialization]],
  );
  return (request, decodeMs, encodeMs) => {
    durations.at(request).observe(durationOf(request));
    if (request.arm === undefined) return;
    deserialization.observe(decodeMs);
    serialization.observe(encodeMs);
  };
}

function durationOf({ timeline: { firstByte, encoded } }: FinishedRequest): number {
  return Math.max(0, encoded - firstByte);
}

/** A histogram for each method and status that was seen. */
class OutcomeCounts {
  readonly #bounds: readonly number[];
  readonly #methods = new Map<string, Map<string, BucketCounts>>();

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
  }

  at({ method, status }: FinishedRequest): BucketCounts {
    let statuses = this.#methods.get(method);
    if (statuses === undefined) this.#methods.set(method, (statuses = new Map()));
    let own = statuses.get(status);
    if (own === undefined) statuses.set(status, (own = new BucketCounts(this.#bounds)));
    return own;
  }

  *read(methodLabel: string, statusLabel: string): Iterable<[Labels, BucketCounts]> {
    for (const [method, statuses] of this.#methods) {
      for (const [status, counts] of statuses) {
        yield [{ [methodLabel]: method === '' ? OTHER : method, [statusLabel]: status }, counts];
      }
    }
  }
}

/** Sums of one protocol's requests that came in one encoding. */
interface Traffic {
  readonly labels: Labels;
  requests: number;
  requestBytes: number;
  responseBytes: number;
  serializationMs: number;
  deserializationMs: number;
}

function registerTraffic(metrics: Metrics): ObserveTimes {
  const arms = { grpc: new Map<string, Traffic>(), rest: new Map<string, Traffic>() };
  const labels = ['protocol', 'arm'];
  const counter = (name: string, help: string, value: (own: Traffic) => number): void =>
    metrics.counter({ name, help, labels }, () =>
      PROTOCOLS.flatMap((protocol) => [...arms[protocol].values()].map((own) => [own.labels, value(own)] as const)),
    );
  counter('tensorwire_requests_total', 'Requests that ended, whatever came of them', (own) => own.requests);
  counter(
    'tensorwire_request_bytes_total',
    'Bytes of request bodies or messages, as received',
    (own) => own.requestBytes,
  );
  counter('tensorwire_response_bytes_total', 'Bytes of reply bodies or messages, as sent', (own) => own.responseBytes);
  counter(
    'tensorwire_serialization_ms_total',
    'Time of writing replies of inferences, in milliseconds',
    (own) => own.serializationMs,
  );
  counter(
    'tensorwire_deserialization_ms_total',
    'Time of reading inferences, in milliseconds',
    (own) => own.deserializationMs,
  );
  return ({ protocol, arm = NO_ARM, requestBytes, responseBytes }, decodeMs, encodeMs) => {
    let own = arms[protocol].get(arm);
    if (own === undefined) {
      const zeros = { requests: 0, requestBytes: 0, responseBytes: 0, serializationMs: 0, deserializationMs: 0 };
      arms[protocol].set(arm, (own = { labels: { protocol, arm }, ...zeros }));
    }
    own.requests++;
    own.requestBytes += requestBytes;
    own.responseBytes += responseBytes;
    if (arm === NO_ARM) return;
    if (decodeMs > 0) own.deserializationMs += decodeMs;
    if (encodeMs > 0) own.serializationMs += encodeMs;
  };
}
