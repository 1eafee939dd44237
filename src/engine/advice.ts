/**
 * Live advice: which share of each model's latency is serialization, and what another encoding or protocol would save.
 *
 * Fed by the composition root with every finished request, asked by the REST route `/v2/models/{model}/advice` and by the metrics.
 * Owns the recent requests of each model and arm. What another arm would cost comes from this model's own traffic over it where there
 * is some, else from a probe: the front end's own codec, run on tensors of that size. Must not guess: where neither is to be had there
 * is no figure.
 */
import { nowMs } from '../base/clock.js';
import { AdviceSamples, type AdviceSummary } from './advice-samples.js';
import type { FinishedRequest } from './finished-request.js';
import type { Arm } from './types.js';

/** The article's thresholds: a share of latency above the first deserves a warning, above the second an alert. */
export const WARNING_SHARE = 0.2;
export const ALERT_SHARE = 0.3;
/** With fewer requests there is no level: the first ones of a process pay for its warming up. */
export const FEWEST_REQUESTS = 20;
/** Less than this is not worth a sentence, in milliseconds and of the p50: another day's medians differ by more. */
const LEAST_SAVING_MS = 0.05;
const LEAST_SAVING_SHARE = 0.02;
/** Traffic over another arm is compared with where its tensors are within this factor in size. */
const ALIKE = 2;
/** Of requests that differ so much, medians do not say all: the slow ones are named where they take so many times as long. */
const UNLIKE = 4;
/** Figures without a newer request are of the past, in milliseconds. */
const FRESH_MS = 5 * 60_000;

export type AdviceLevel = 'ok' | 'warning' | 'alert';

/** What decoding a request and encoding its reply take over one arm, in milliseconds, for tensors of a size in bytes. */
export interface CodecProbe {
  decodeMs(inputBytes: number): number;
  encodeMs(outputBytes: number): number;
}

export interface Alternative {
  readonly arm: Arm;
  readonly serializationMs: number;
  readonly savesMs: number;
  /** Of the p50. */
  readonly savesShare: number;
  /** Whether this model's own requests over that arm say so, or the codec run on tensors of that size. */
  readonly basis: 'traffic' | 'probe';
}

export interface ArmAdvice {
  readonly arm: Arm;
  readonly summary: AdviceSummary;
  /** Since the newest of the requests, in milliseconds. */
  readonly agoMs: number;
  /** No request has come for minutes: what follows is of the past. */
  readonly isStale: boolean;
  /** Undefined while there are too few requests. */
  readonly level: AdviceLevel | undefined;
  /** Cheaper arms, the cheapest first. */
  readonly alternatives: readonly Alternative[];
  readonly advice: string;
}

/** Which arms are worth a thought for whom: the same protocol first. */
const CANDIDATES: Readonly<Record<Arm, readonly Arm[]>> = {
  rest_json: ['rest_binary', 'grpc_raw'],
  rest_binary: ['grpc_raw'],
  grpc_typed: ['grpc_raw', 'rest_binary'],
  grpc_raw: ['rest_binary'],
};

const ENCODING: Readonly<Record<Arm, string>> = {
  rest_json: 'JSON',
  rest_binary: 'binary',
  grpc_raw: 'raw contents',
  grpc_typed: 'typed contents',
};

/** How a change to `arm` is called by somebody who uses the other. */
const CHANGE: Readonly<Record<Arm, string>> = {
  rest_json: 'JSON',
  rest_binary: 'binary over REST',
  grpc_raw: 'raw over gRPC',
  grpc_typed: 'typed contents',
};

export class Advisor {
  private readonly models = new Map<string, Map<Arm, AdviceSamples>>();
  private readonly probes: Readonly<Partial<Record<Arm, CodecProbe>>>;
  /** Probed costs by arm, direction and size, which is rounded up to a power of two. */
  private readonly probed = new Map<string, number>();

  /** `probes`: of the arms that this server has open. */
  constructor(probes: Readonly<Partial<Record<Arm, CodecProbe>>>) {
    this.probes = probes;
  }

  /**
   * Takes a request that ended. Those that no model answered are passed over, so that models are the repository's; and those whose
   * answer nobody got, whose last phase is no encoding.
   */
  observe({ arm, modelName, timeline, status }: FinishedRequest): void {
    if (arm === undefined || timeline.scattered === 0 || (status !== 'OK' && status !== '200')) return;
    let arms = this.models.get(modelName);
    if (arms === undefined) {
      arms = new Map();
      this.models.set(modelName, arms);
    }
    let samples = arms.get(arm);
    if (samples === undefined) {
      samples = new AdviceSamples();
      arms.set(arm, samples);
    }
    samples.add(timeline);
  }

  /** Models that have answered. */
  modelNames(): Iterable<string> {
    return this.models.keys();
  }

  /** One line for each arm that has been used, most requests first; none where nothing was asked. */
  adviceOf(model: string, now = nowMs()): ArmAdvice[] {
    const arms = this.models.get(model) ?? new Map<Arm, AdviceSamples>();
    const summaries = new Map([...arms].map(([arm, samples]) => [arm, samples.summary()!]));
    return [...summaries]
      .sort(([, a], [, b]) => b.requests - a.requests)
      .map(([arm, summary]) => {
        const level = summary.requests < FEWEST_REQUESTS ? undefined : levelOf(summary.share);
        const alternatives = level === undefined ? [] : this.alternatives(arm, summary, summaries);
        const agoMs = Math.max(0, now - summary.newestMs);
        const isStale = agoMs > FRESH_MS;
        const advice = [sentence(arm, summary, level, alternatives)];
        if (isStale) advice.push(`the last request was ${Math.round(agoMs / 60_000)} minutes ago`);
        return { arm, summary, agoMs, isStale, level, alternatives, advice: advice.join('; ') };
      });
  }

  private alternatives(arm: Arm, summary: AdviceSummary, summaries: ReadonlyMap<Arm, AdviceSummary>): Alternative[] {
    if (hasNoTensors(summary)) return [];
    const ownMs = summary.decodeMs + summary.encodeMs;
    const found: Alternative[] = [];
    for (const other of CANDIDATES[arm]) {
      const cost = this.costOf(other, summary, summaries.get(other));
      if (cost === undefined) continue;
      const savesMs = ownMs - cost.ms;
      const savesShare = summary.p50Ms > 0 ? savesMs / summary.p50Ms : 0;
      if (savesMs < LEAST_SAVING_MS || savesShare < LEAST_SAVING_SHARE) continue;
      found.push({ arm: other, serializationMs: cost.ms, savesMs, savesShare, basis: cost.basis });
    }
    return found.sort((a, b) => b.savesMs - a.savesMs);
  }

  private costOf(
    arm: Arm,
    { inputBytes, outputBytes }: AdviceSummary,
    traffic: AdviceSummary | undefined,
  ): { ms: number; basis: Alternative['basis'] } | undefined {
    const isAlike = (a: number, b: number): boolean => a <= b * ALIKE && b <= a * ALIKE;
    if (
      traffic !== undefined &&
      traffic.requests >= FEWEST_REQUESTS &&
      isAlike(traffic.inputBytes, inputBytes) &&
      isAlike(traffic.outputBytes, outputBytes)
    ) {
      return { ms: traffic.decodeMs + traffic.encodeMs, basis: 'traffic' };
    }
    const probe = this.probes[arm];
    if (probe === undefined) return undefined;
    return {
      ms: this.probe(probe, arm, 'decodeMs', inputBytes) + this.probe(probe, arm, 'encodeMs', outputBytes),
      basis: 'probe',
    };
  }

  /** Each direction by itself: there are a few dozen sizes, and of pairs of them hundreds. */
  private probe(probe: CodecProbe, arm: Arm, direction: keyof CodecProbe, bytes: number): number {
    const size = upToPowerOfTwo(bytes);
    const key = `${arm} ${direction} ${size}`;
    let ms = this.probed.get(key);
    if (ms === undefined) {
      ms = probe[direction](size);
      this.probed.set(key, ms);
    }
    return ms;
  }
}

export function levelOf(share: number): AdviceLevel {
  if (share > ALERT_SHARE) return 'alert';
  return share > WARNING_SHARE ? 'warning' : 'ok';
}

/** Generated text: its prompt and its words are text over every arm. */
function hasNoTensors({ inputBytes, outputBytes }: AdviceSummary): boolean {
  return inputBytes === 0 && outputBytes === 0;
}

/** The least power of two that is not below `bytes`; sizes are probed once for each. */
function upToPowerOfTwo(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, bytes)));
}

/** What a person should know, in a sentence. */
function sentence(
  arm: Arm,
  summary: AdviceSummary,
  level: AdviceLevel | undefined,
  alternatives: readonly Alternative[],
): string {
  const { requests, share, decodeMs, encodeMs, p50Ms, slowMs } = summary;
  if (level === undefined) return `only ${requests} requests so far, ${FEWEST_REQUESTS} are needed`;
  const part = decodeMs > 4 * encodeMs ? 'decode' : encodeMs > 4 * decodeMs ? 'encode' : 'decode and encode';
  const facts = [
    `${ENCODING[arm]} ${part} is ${(share * 100).toFixed(share < 0.1 ? 1 : 0)} % of p50 (${milliseconds(p50Ms)})`,
  ];
  if (slowMs > UNLIKE * (decodeMs + encodeMs) && slowMs > LEAST_SAVING_MS) {
    facts.push(`one request in 20 spends ${milliseconds(slowMs)} or more on it`);
  }
  const savings = alternatives.map(({ arm: other, savesMs }) => `${CHANGE[other]} would save ${milliseconds(savesMs)}`);
  if (savings.length > 0) facts.push(savings.join(', '));
  else facts.push(hasNoTensors(summary) ? 'it carries text over every arm' : 'no other arm would save much');
  return facts.join('; ');
}

function milliseconds(ms: number): string {
  return `${ms >= 10 ? ms.toFixed(1) : ms.toPrecision(2)} ms`;
}
