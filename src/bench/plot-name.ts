/**
 * What the file of a plot is called, without its ending: the report finds its plots by it.
 *
 * Called by the plots and the Markdown report. Pure. Models are named by whoever runs the server, so names are made fit for any file
 * system.
 */
export type PlotKind = 'latency' | 'throughput' | 'bytes' | 'percentiles' | 'budget' | 'streams';

/** `latency-text_embedding`, `budget-text_embedding-c8`; `load` is the key of its name. Of [a-z0-9_.-] alone. */
export function plotName(kind: PlotKind, model?: string, load?: string): string {
  return [kind, ...(model === undefined ? [] : [model.slice(0, 80)]), ...(load === undefined ? [] : [load])]
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9_.-]+/g, '-');
}
