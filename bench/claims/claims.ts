/**
 * All claims, in the order of the document: latency first, then what it comes from.
 *
 * Read by `write.ts` and by the tests, which hold that ids are unique.
 */
import { BALANCING_CLAIMS } from './balancing-claims.js';
import type { Claim } from './claim.js';
import { CODEC_CLAIMS } from './codec-claims.js';
import { CONNECTION_CLAIMS } from './connection-claims.js';
import { LATENCY_CLAIMS } from './latency-claims.js';
import { SERIALIZATION_CLAIMS } from './serialization-claims.js';
import { SIZE_CLAIMS } from './size-claims.js';
import { STREAM_CLAIMS } from './stream-claims.js';

export interface ClaimGroup {
  readonly title: string;
  readonly claims: readonly Claim[];
}

export const CLAIM_GROUPS: readonly ClaimGroup[] = [
  { title: 'Latency and throughput', claims: LATENCY_CLAIMS },
  { title: 'Serialization', claims: SERIALIZATION_CLAIMS },
  { title: 'Bytes', claims: SIZE_CLAIMS },
  { title: 'Codecs and compression', claims: CODEC_CLAIMS },
  { title: 'Connections', claims: CONNECTION_CLAIMS },
  { title: 'Balancing', claims: BALANCING_CLAIMS },
  { title: 'Streams of tokens', claims: STREAM_CLAIMS },
];
