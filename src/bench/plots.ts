/**
 * The plots of a run, as standalone SVG: latency and throughput over the payload, the budget, percentiles and bytes of each arm, token
 * streams.
 *
 * Called by the harness and the command `tensorwire bench --out`. Pure: what to write is told, nothing is written. Only plots that a run
 * has figures for are made.
 */
import { answeredCells, modelsOf } from './cells.js';
import { plainName } from './figures.js';
import { budgetFigures, bytesFigure, percentileFigures } from './plot-arms.js';
import { latencyFigure, throughputFigure } from './plot-curves.js';
import { drawFigure, type Figure } from './plot-figure.js';
import { plotName } from './plot-name.js';
import { streamsFigure } from './plot-streams.js';
import type { BenchResults } from './results.js';

export interface Plot {
  /** `latency-text_embedding.svg`: unique in a run, of [a-z0-9_.-] alone. */
  readonly file: string;
  /** What it shows, for a caption. */
  readonly title: string;
  readonly svg: string;
}

/** In the order of the report: model by model, then the streams. */
export function plots(results: BenchResults): Plot[] {
  const cells = answeredCells(results);
  const files = new Set<string>();
  const plot = (name: string, figure: Figure): Plot => {
    const title = plainName(figure.title);
    return { file: uniqueFile(name, files), title, svg: drawFigure({ ...figure, title }) };
  };
  const ofModels = modelsOf(cells).flatMap((model) => {
    const own = cells.filter((cell) => cell.model === model);
    return [
      plot(plotName('latency', model), latencyFigure(model, own, results.rounds)),
      plot(plotName('throughput', model), throughputFigure(model, own)),
      ...budgetFigures(model, own).map(({ load, figure }) => plot(plotName('budget', model, load), figure)),
      ...percentileFigures(model, own).map(({ load, figure }) => plot(plotName('percentiles', model, load), figure)),
      plot(plotName('bytes', model), bytesFigure(model, own)),
    ];
  });
  const streams = streamsFigure(results.streams);
  return streams ? [...ofModels, plot(plotName('streams'), streams)] : ofModels;
}

/** Two models may come to the same name. */
function uniqueFile(name: string, taken: Set<string>): string {
  let file = `${name}.svg`;
  for (let count = 2; taken.has(file); count++) file = `${name}-${count}.svg`;
  taken.add(file);
  return file;
}
