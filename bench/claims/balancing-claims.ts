/**
 * Claims about balancers that see connections, judged by the experiment `balancing`.
 *
 * Listed in `claims.ts`. Pure. Of three replicas the busiest has a third of the requests at best.
 */
import { percent } from '../../src/bench/figures.js';
import { type Claim, inRange, NOT_MEASURED, together } from './claim.js';
import { experimentOf } from './measured.js';

const BALANCING = 'Load Balancing and Connection Pooling: Where Theory Breaks';
const EVEN = 0.4;

export const BALANCING_CLAIMS: readonly Claim[] = [
  {
    id: 'skew-80-20',
    title: 'Skew between replicas',
    claim: 'Behind a balancer that counts connections, one replica may get 80 % of gRPC requests.',
    article: '80 %',
    section: BALANCING,
    how: 'Share of the busiest of three replicas: four clients, one of which sends eight times as much as each of the others.',
    judge: (results) => {
      const figure = experimentOf(results, 'balancing');
      const [unequal, equal, robin] = ['grpc_unequal', 'grpc_equal', 'grpc_client_round_robin'].map(figure);
      if (unequal === undefined) return NOT_MEASURED;
      return together(
        [
          {
            verdict: inRange(unequal, { low: 0.8, high: 0.8, neutral: 1 / 3 }),
            figure: `${percent(unequal)} at the busiest`,
          },
        ],
        `The share is that of the busiest client: connections are balanced, requests are not.` +
          (equal === undefined ? '' : ` Twelve clients that ask alike give ${percent(equal)}.`) +
          (robin === undefined
            ? ''
            : ` The client's own round robin over the replicas gives ${percent(robin)}, whoever asks how much.`),
      );
    },
  },
  {
    id: 'rest-balances',
    title: 'REST behind the same balancer',
    claim: 'REST is spread evenly, since each request has a connection of its own or one of a pool.',
    article: 'even',
    section: BALANCING,
    how: 'The same clients over REST: a connection for each request, kept ones as many as are in flight, and one kept by each client. At most 40 % at the busiest is even.',
    judge: (results) => {
      const figure = experimentOf(results, 'balancing');
      const ways = {
        rest_new_connections_unequal: 'a connection for each request',
        rest_keep_alive_unequal: 'kept connections',
        rest_one_connection_unequal: 'one kept by each client',
      };
      return together(
        Object.entries(ways).map(([way, name]) => {
          const share = figure(way);
          if (share === undefined) return undefined;
          return { verdict: share <= EVEN ? 'holds' : 'does not hold here', figure: `${percent(share)} (${name})` };
        }),
        'What matters is how many connections there are, not the protocol.',
      );
    },
  },
  {
    id: 'affinity',
    title: "Affinity by the client's address as the remedy",
    claim: "With affinity by the client's address, traffic is spread fairly over all replicas.",
    article: 'fair',
    section: BALANCING,
    how: 'The same clients, each bound to a replica by its address (dealt out evenly, the best case), with one connection and with ten; and all of them behind one address. At most 40 % at the busiest is fair.',
    judge: (results) => {
      const figure = experimentOf(results, 'balancing');
      const ways = {
        grpc_affinity_unequal: 'one connection each',
        grpc_pool_affinity_unequal: 'ten connections each',
        grpc_affinity_one_address: 'behind one address',
      };
      const pool = figure('grpc_pool_unequal');
      return together(
        Object.entries(ways).map(([way, name]) => {
          const share = figure(way);
          if (share === undefined) return undefined;
          return { verdict: share <= EVEN ? 'holds' : 'does not hold here', figure: `${percent(share)} (${name})` };
        }),
        (pool === undefined ? '' : `Ten connections for each client give ${percent(pool)} without affinity. `) +
          "Affinity binds all of a client's connections to one replica. What helps is balancing requests: in the client, or in a proxy that knows HTTP/2.",
      );
    },
  },
];
