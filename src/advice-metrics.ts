/**
 * What Prometheus sees of the advice: the share of latency that is serialization, and what other arms would save, by model and arm.
 *
 * Called by `ports.ts`. Read at scrape time from the advisor, so requests pay nothing. Models are those that have answered, arms those
 * that somebody still uses: a figure of this morning would look like one of now.
 */
import type { Labels, Metrics } from './base/metrics.js';
import { type Advisor, ALERT_SHARE, type ArmAdvice, WARNING_SHARE } from './engine/advice.js';

/** Levels in numbers, for alert rules. */
const LEVELS = { ok: 0, warning: 1, alert: 2 } as const;

export function registerAdviceMetrics(metrics: Metrics, advisor: Advisor): void {
  /** Model by model, for medians of five hundred requests are not free. */
  const each = (values: (advice: ArmAdvice, labels: Labels) => readonly (readonly [Labels, number])[]) =>
    function* () {
      for (const model of advisor.modelNames()) {
        for (const advice of advisor.adviceOf(model)) {
          if (!advice.isStale) yield* values(advice, { model, arm: advice.arm });
        }
      }
    };
  const common = { labels: ['model', 'arm'], isCostly: true };
  metrics.gauge(
    {
      ...common,
      name: 'tensorwire_serialization_share',
      help: 'Share of a request that decoding and encoding take, median over the last requests',
    },
    each(({ summary }, labels) => [[labels, summary.share]]),
  );
  metrics.gauge(
    {
      ...common,
      name: 'tensorwire_advice_level',
      help: `0 = ok, 1 = serialization above ${WARNING_SHARE * 100} % of a request, 2 = above ${ALERT_SHARE * 100} %`,
    },
    each(({ level }, labels) => (level === undefined ? [] : [[labels, LEVELS[level]]])),
  );
  metrics.gauge(
    {
      ...common,
      name: 'tensorwire_advice_saving_ms',
      help: 'What another arm would save of each request, in milliseconds',
      labels: [...common.labels, 'to'],
    },
    each(({ alternatives }, labels) => alternatives.map(({ arm: to, savesMs }) => [{ ...labels, to }, savesMs])),
  );
}
