/**
 * All claims, in the order of the document: latency first, then what it comes from.
 *
 * Read by `write.ts` and by the tests, which hold that ids are unique.
 */
import type { Claim } from './claim.js';
import { CODEC_CLAIMS } from './codec-claims.js';
import { CONNECTION_CLAIMS } from './connection-claims.js';
import { LATENCY_CLAIMS } from './latency-claims.js';
import { SIZE_CLAIMS } from './size-claims.js';
import { STREAM_CLAIMS } from './stream-claims.js';

export interface ClaimGroup {
  readonly title: string;
  readonly claims: readonly Claim[];
}

export const CLAIM_GROUPS: readonly ClaimGroup[] = [
  { title: 'Latency and throughput', claims: LATENCY_CLAIMS },
  { title: 'Bytes', claims: SIZE_CLAIMS },
  { title: 'Codecs and compression', claims: CODEC_CLAIMS },
  { title: 'Connections and balancing', claims: CONNECTION_CLAIMS },
  { title: 'Streams of tokens', claims: STREAM_CLAIMS },
];
