/**
 * What Prometheus sees of the advice: the share of latency that is serialization, and what other arms would save, by model and arm.
 *
 * Called by `ports.ts`. Read at scrape time from the advisor, so requests pay nothing. Models are those that have answered.
 */
import type { Labels, Metrics } from './base/metrics.js';
import { type Advisor, ALERT_SHARE, WARNING_SHARE } from './engine/advice.js';

/** Levels in numbers, for alert rules. */
const LEVELS = { ok: 0, warning: 1, alert: 2 } as const;

export function registerAdviceMetrics(metrics: Metrics, advisor: Advisor): void {
  const lines = () =>
    [...advisor.modelNames()].flatMap((model) => advisor.adviceOf(model).map((advice) => ({ model, ...advice })));
  const labels = ['model', 'arm'];
  metrics.gauge(
    {
      name: 'tensorwire_serialization_share',
      help: 'Share of a request that decoding and encoding take, median over the last requests',
      labels,
    },
    () => lines().map(({ model, arm, summary }): [Labels, number] => [{ model, arm }, summary.share]),
  );
  metrics.gauge(
    {
      name: 'tensorwire_advice_level',
      help: `0 = ok, 1 = serialization above ${WARNING_SHARE * 100} % of a request, 2 = above ${ALERT_SHARE * 100} %`,
      labels,
    },
    () =>
      lines().flatMap(({ model, arm, level }): [Labels, number][] =>
        level === undefined ? [] : [[{ model, arm }, LEVELS[level]]],
      ),
  );
  metrics.gauge(
    {
      name: 'tensorwire_advice_saving_ms',
      help: 'What another arm would save of each request, in milliseconds',
      labels: [...labels, 'to'],
    },
    () =>
      lines().flatMap(({ model, arm, alternatives }) =>
        alternatives.map(({ arm: to, savesMs }): [Labels, number] => [{ model, arm, to }, savesMs]),
      ),
  );
}
