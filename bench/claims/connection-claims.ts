/**
 * Claims about connections: overhead, headers, channels, slow neighbours. Judged by the experiments of those names.
 *
 * Listed in `claims.ts`. Pure. What depends on a network is measured twice, on the loopback and behind a proxy with a round trip of 10 ms.
 */
import { digits, milliseconds, percent } from '../../src/bench/figures.js';
import { type Claim, inRange, type Part, together, type Verdict } from './claim.js';
import { experimentOf, quotient } from './measured.js';

const MULTIPLEXING = "HTTP/2 Multiplexing (gRPC's Foundation)";
const POOLING = 'Connection Pooling Strategy: Client-Side Optimization';
/** A fast request is held up when it takes this many times what it takes alone. */
const HELD_UP = 2;

export const CONNECTION_CLAIMS: readonly Claim[] = [
  {
    id: 'connection-overhead',
    title: '100 requests at once',
    claim: 'Of 100 parallel requests, each pays 0.1 ms for its connection over gRPC, and 5 to 15 ms over REST.',
    article: '0.1 against 5-15 ms',
    section: MULTIPLEXING,
    how: 'Wall time over 100, all of it, to a model that computes nothing: a fresh HTTP/2 connection (at most 0.1 ms), and six warm ones of HTTP/1.1 (5 to 15 ms).',
    judge: (results) => {
      const figure = experimentOf(results, 'connection_overhead');
      const parts = (['plain', 'rtt10'] as const).flatMap((network) => {
        const [h2, h1] = [figure(`small_${network}_h2_fresh_each_ms`), figure(`small_${network}_h1_six_each_ms`)];
        if (h2 === undefined || h1 === undefined) return [];
        const where = network === 'plain' ? 'on the loopback' : 'with a round trip of 10 ms';
        const cheap: Verdict = h2 <= 0.11 ? 'holds' : h1 / h2 >= 1.1 ? 'holds in part' : 'does not hold here';
        const dear: Verdict = h1 >= 4.5 && h1 <= 16.5 ? 'holds' : 'does not hold here';
        return [
          { verdict: cheap, figure: `${where} ${milliseconds(h2)}` },
          { verdict: dear, figure: `against ${milliseconds(h1)}` },
        ];
      });
      const hundred = figure('small_rtt10_h1_hundred_each_ms');
      return together(
        parts,
        'Requests that queue for six connections go in 17 turns, so each millisecond of round trip adds 0.17 ms to each: a network decides, and 5 ms need a round trip of 30. ' +
          (hundred === undefined
            ? ''
            : `The limit of six is a browser's: a client with 100 connections pays ${milliseconds(hundred)} with the same round trip. `) +
          'Most of the fraction of a millisecond over gRPC is the processing of the request in client and server.',
      );
    },
  },
  {
    id: 'hpack',
    title: 'Compressed headers',
    claim: 'HPACK saves 60 to 70 % of the metadata.',
    article: '60-70 %',
    section: MULTIPLEXING,
    how: 'Header bytes of a request on a warm HTTP/2 connection against HTTP/1.1 with the same metadata, with a bearer token and without.',
    judge: (results) => {
      const figure = experimentOf(results, 'hpack');
      const part = (suffix: string, name: string): Part | undefined => {
        const [h2, h1] = [figure(`h2_request_later${suffix}`), figure(`h1_request${suffix}`)];
        const left = quotient(h2, h1);
        if (left === undefined) return undefined;
        const verdict = inRange(1 - left, { low: 0.6, high: 0.7, neutral: 0 });
        return { verdict, figure: `${percent(1 - left)} ${name} (${h1} to ${h2} bytes)` };
      };
      return together(
        [part('', 'with a token'), part('_without_token', 'without')],
        "Node's HTTP/2 keeps `authorization` out of the table on purpose, so the token is sent whole with every request; a traceparent is new each time. What is left is worth some hundred bytes: much for a token, nothing for a picture.",
      );
    },
  },
  {
    id: 'channel-per-request',
    title: 'A channel for each request',
    claim: 'A new channel for each request costs 25 to 200 ms.',
    article: '25-200 ms',
    section: POOLING,
    how: 'A new grpc-js channel for each request less a kept one, plaintext and TLS.',
    judge: (results) => {
      const figure = experimentOf(results, 'channel_per_request');
      const ways = {
        plain: 'plaintext',
        tls: 'TLS',
        plain_rtt10: 'plaintext, round trip of 10 ms',
        tls_rtt10: 'TLS, round trip of 10 ms',
      };
      const h1 = figure('tls_rtt10_h1_tax_ms');
      return together(
        Object.entries(ways).map(([way, name]) => {
          const ms = figure(`${way}_tax_ms`);
          if (ms === undefined) return undefined;
          return { verdict: inRange(ms, { low: 25, high: 200, neutral: 0 }), figure: `${milliseconds(ms)} (${name})` };
        }),
        'It is round trips: one for TCP, one more for TLS, and grpc-js waits for the settings of the server before it sends. ' +
          (h1 === undefined
            ? ''
            : `A new connection for each request costs REST ${milliseconds(h1)} over TLS on the same network. `) +
          'Names were not resolved here. The advice to keep channels holds everywhere.',
      );
    },
  },
  {
    id: 'pool-of-ten',
    title: 'A pool of ten channels',
    claim: 'A pool of ten channels spreads requests over several connections and is faster than one.',
    article: '10 channels',
    section: POOLING,
    how: 'Requests a second with 64 in flight, ten channels over one: a gain of at least 10 %, each size. And the connections that ten channels have.',
    judge: (results) => {
      const figure = experimentOf(results, 'channel_pool');
      const shared = figure('ten_shared_connections');
      const gain = (kb: number): Part | undefined => {
        const ratio = figure(`ten_own_over_one_per_second_${kb}k`);
        return ratio === undefined
          ? undefined
          : { verdict: ratio >= 1.1 ? 'holds' : 'does not hold here', figure: `${digits(ratio)}x at ${kb} KB` };
      };
      return together(
        [
          shared === undefined
            ? undefined
            : {
                verdict: shared > 1 ? 'holds' : 'does not hold here',
                figure: `ten channels as written: ${shared} connection${shared === 1 ? '' : 's'}`,
              },
          ...[2, 100, 1000].map(gain),
        ],
        'Channels to one address share a connection unless each is told to have its own (`grpc.use_local_subchannel_pool`), so the pool as the article writes it is none. Connections of their own have a window and a socket each, and fewer messages that leave in one write. The client is one thread: more connections give it no more cores.',
      );
    },
  },
  {
    id: 'slow-does-not-block',
    title: 'A slow request on a shared connection',
    claim: 'On one HTTP/2 connection a slow request does not hold up others.',
    article: 'interleaved frames',
    section: MULTIPLEXING,
    how: `Fast requests beside slow ones on the same connection over those with the slow ones on another, at most ${HELD_UP}x: beside one that computes long and six of them (medians), and beside a transfer of 10 MB each way (means).`,
    judge: (results) => {
      const figure = experimentOf(results, 'head_of_line');
      const part = (above: string, below: string, name: string): Part | undefined => {
        const ratio = quotient(figure(above), figure(below));
        if (ratio === undefined) return undefined;
        const verdict = ratio <= HELD_UP ? 'holds' : 'does not hold here';
        return { verdict, figure: `${digits(ratio)}x beside ${name}` };
      };
      const p99 = quotient(figure('h2_large_p99_ms'), figure('h2_own_connection_large_p99_ms'));
      return together(
        [
          part('h2_one_slow_p50_ms', 'h2_own_connection_one_slow_p50_ms', 'a slow one'),
          part('h2_six_slow_p50_ms', 'h2_own_connection_six_slow_p50_ms', 'six slow ones'),
          part('h2_large_mean_ms', 'h2_own_connection_large_mean_ms', '10 MB'),
        ],
        'Streams of HTTP/2 do not wait for each other, as long as the server has a worker for the fast one. They share one TCP connection, whose bytes come in order: ' +
          (p99 === undefined
            ? ''
            : `the p99 beside a large transfer is ${digits(p99)} times that on a connection of its own, `) +
          'and a lost packet, which a loopback does not have, stops all of them.',
      );
    },
  },
  {
    id: 'http1-blocks',
    title: 'A slow request over HTTP/1.1',
    claim: 'Over HTTP/1.1 a slow request holds up everything queued behind it, and clients have six connections.',
    article: '6 connections',
    section: "HTTP/1.1 (REST's Default)",
    how: 'Median of fast requests beside slow ones over that alone; ten times is held up. One connection and one slow request, six and six; six connections and one slow request must be free.',
    judge: (results) => {
      const figure = experimentOf(results, 'head_of_line');
      const part = (way: string, alone: string, name: string): Part | undefined => {
        const ratio = quotient(figure(`${way}_p50_ms`), figure(`${alone}_p50_ms`));
        if (ratio === undefined) return undefined;
        return { verdict: ratio >= 10 ? 'holds' : 'does not hold here', figure: `${digits(ratio)}x on ${name}` };
      };
      const free = quotient(figure('h1_six_one_slow_p50_ms'), figure('h1_six_alone_p50_ms'));
      return together(
        [
          part('h1_one_one_slow', 'h1_one_alone', 'one connection'),
          part('h1_six_six_slow', 'h1_six_alone', 'six, all busy'),
        ],
        (free === undefined
          ? ''
          : `Beside one slow request on six connections fast ones take ${digits(free)} times what they take alone. `) +
          'Six is a limit of browsers; a service chooses its own.',
      );
    },
  },
];
