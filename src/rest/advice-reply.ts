/**
 * The advice on one model as the REST route `/v2/models/{model}/advice` gives it.
 *
 * Called by `routes.ts`. Names and roundings only; the judging is the engine's.
 */

/** What the route needs of the advisor; see `engine/advice.ts`. */
export interface AdviceSource {
  adviceOf(model: string): readonly {
    readonly arm: string;
    readonly summary: Readonly<Record<SummaryField, number>>;
    readonly agoMs: number;
    readonly level: string | undefined;
    readonly alternatives: readonly {
      readonly arm: string;
      readonly serializationMs: number;
      readonly savesMs: number;
      readonly savesShare: number;
      readonly basis: string;
    }[];
    readonly advice: string;
  }[];
}

type SummaryField =
  | 'requests'
  | 'spanMs'
  | 'p50Ms'
  | 'p99Ms'
  | 'decodeMs'
  | 'encodeMs'
  | 'slowMs'
  | 'share'
  | 'inputBytes'
  | 'outputBytes';

/** The reply's value; an empty list of arms where the model has not answered yet. */
export function adviceReply(source: AdviceSource, model: string): object {
  return {
    model_name: model,
    arms: source.adviceOf(model).map(({ arm, summary, agoMs, level, alternatives, advice }) => ({
      arm,
      advice,
      level: level ?? 'unknown',
      requests: summary.requests,
      over_seconds: rounded(summary.spanMs / 1000),
      last_seconds_ago: rounded(agoMs / 1000),
      p50_ms: rounded(summary.p50Ms),
      p99_ms: rounded(summary.p99Ms),
      serialization: {
        share: rounded(summary.share),
        decode_ms: rounded(summary.decodeMs),
        encode_ms: rounded(summary.encodeMs),
        p95_ms: rounded(summary.slowMs),
      },
      input_bytes: summary.inputBytes,
      output_bytes: summary.outputBytes,
      alternatives: alternatives.map(({ arm: other, serializationMs, savesMs, savesShare, basis }) => ({
        arm: other,
        serialization_ms: rounded(serializationMs),
        saves_ms: rounded(savesMs),
        saves_share: rounded(savesShare),
        basis,
      })),
    })),
  };
}

/** Three decimals: microseconds, or tenths of a percent. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
