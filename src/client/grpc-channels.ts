/**
 * The connections of a client over gRPC: for each address as many channels as were asked for, each with an HTTP/2 connection of its own.
 *
 * Owned by `grpc-calls.ts`. Calls go round robin over addresses, then over an address's channels, past those that aren't connected while
 * others are. grpc-js connects again by itself, so an address comes back when it is there. Must not know a method.
 */
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import {
  Channel,
  type ChannelCredentials,
  type ChannelOptions,
  compressionAlgorithms,
  connectivityState,
  credentials,
} from '@grpc/grpc-js';
import { DEFAULT_MAX_RECEIVE_BYTES } from './answer.js';
import { pemsOf } from './tls.js';
import type { ClientOptions, TlsOptions } from './types.js';

/**
 * Servers built on gRPC's C core, Triton among them, allow one PING in five minutes without data, and close the connection of a client
 * that sends more: with all its calls.
 */
const DEFAULT_KEEPALIVE_MS = 330_000;

/** Without it an answer stops every 64 KB until the window is opened again: 7 ms instead of 4 for 600 KB on one machine. */
const WINDOW_BYTES = 8 * 1024 * 1024;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** A server that comes back is found within seconds; grpc-js alone waits up to two minutes. */
const FIRST_RECONNECT_MS = 200;
const MAX_RECONNECT_MS = 5000;

export class GrpcChannels {
  readonly #options: ClientOptions;
  readonly #credentials: ChannelCredentials;
  readonly #count: number;
  /** In the order of round robin; made at the first call that needs them, as compressed calls need others. */
  readonly #plain: Channel[] = [];
  readonly #gzip: Channel[] = [];
  #turn = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#credentials = credentialsOf(options.tls);
    this.#count = options.addresses.length * (options.connections ?? 1);
  }

  /**
   * The channel whose turn it is, of those that are connected; where none is, of those that may be soon. Channels known to be out of reach
   * come last, and never those in `tried`: undefined = there is no other.
   */
  next(isGzip: boolean, tried?: ReadonlySet<Channel>): Channel | undefined {
    const channels = isGzip ? this.#gzip : this.#plain;
    if (channels.length === 0) this.#fill(channels, isGzip);
    let chosen = -1;
    for (let step = 0; step < channels.length; step++) {
      const index = (this.#turn + step) % channels.length;
      const channel = channels[index]!;
      if (tried?.has(channel) || isOutOfReach(channel)) continue;
      const state = channel.getConnectivityState(false);
      if (chosen < 0 || state === connectivityState.READY) chosen = index;
      if (state === connectivityState.READY) break;
      // It connects meanwhile: no call has to wait for it while another can go.
      channel.getConnectivityState(true);
    }
    if (chosen < 0 && tried !== undefined) return undefined;
    // All are out of reach: whoever's turn it is says so, and why.
    if (chosen < 0) chosen = this.#turn % channels.length;
    this.#turn = (chosen + 1) % channels.length;
    return channels[chosen];
  }

  close(): void {
    for (const channel of [...this.#plain, ...this.#gzip]) channel.close();
  }

  #fill(channels: Channel[], isGzip: boolean): void {
    const { addresses } = this.#options;
    for (let index = 0; index < this.#count; index++) {
      const address = addresses[index % addresses.length]!;
      channels.push(new Channel(`dns:///${address}`, this.#credentials, channelOptions(this.#options, isGzip)));
    }
  }
}

/** grpc-js has tried to connect and failed; it goes on trying. */
export function isOutOfReach(channel: Channel): boolean {
  return channel.getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE;
}

/** What grpc-js is told of a client's channels. */
export function channelOptions(options: ClientOptions, isGzip: boolean): ChannelOptions {
  const { keepaliveMs = DEFAULT_KEEPALIVE_MS, maxReceiveBytes = DEFAULT_MAX_RECEIVE_BYTES, tls } = options;
  const serverName = typeof tls === 'object' ? tls.serverName : undefined;
  return {
    // Channels of equal options and address share one connection otherwise.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_channelz': 0,
    'grpc.service_config_disable_resolution': 1,
    // Retries are ours. With a buffer for its own, grpc-js would say that a message is written before it is.
    'grpc.enable_retries': 0,
    'grpc.per_rpc_retry_buffer_size': 0,
    'grpc.max_send_message_length': -1,
    'grpc.max_receive_message_length': maxReceiveBytes,
    'grpc-node.flow_control_window': WINDOW_BYTES,
    'grpc.initial_reconnect_backoff_ms': FIRST_RECONNECT_MS,
    'grpc.max_reconnect_backoff_ms': MAX_RECONNECT_MS,
    ...(keepaliveMs > 0 && {
      'grpc.keepalive_time_ms': keepaliveMs,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    }),
    ...(isGzip && { 'grpc.default_compression_algorithm': compressionAlgorithms.gzip }),
    ...(serverName !== undefined && {
      'grpc.ssl_target_name_override': serverName,
      'grpc.default_authority': serverName,
    }),
  };
}

function credentialsOf(tls: boolean | TlsOptions | undefined): ChannelCredentials {
  if (!tls) return credentials.createInsecure();
  const { ca = null, cert = null, key = null } = tls === true ? {} : pemsOf(tls);
  return withoutNamesOfNumbers(credentials.createSsl(ca, key, cert));
}

/**
 * grpc-js asks for the certificate of the name that it connects to, which may be no IP address: Node warns of it, and from 26 on refuses.
 * The certificate is checked against the host, which stays.
 */
function withoutNamesOfNumbers(secure: ChannelCredentials): ChannelCredentials {
  const createConnector = secure._createSecureConnector.bind(secure);
  secure._createSecureConnector = (...target) => {
    const connector = createConnector(...target) as ReturnType<typeof createConnector> & {
      readonly connectionOptions?: ConnectionOptions;
    };
    const { connectionOptions } = connector;
    if (connectionOptions?.servername && isIP(connectionOptions.servername)) delete connectionOptions.servername;
    return connector;
  };
  return secure;
}
