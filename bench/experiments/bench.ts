/**
 * `npm run bench -- experiments`: the experiments behind the claims on their own, without the matrix.
 *
 * Called by `bench/main.ts`. Prints each figure; the last line has all of them, named `experiment.figure`.
 */
import { type Bench, type Figures, say } from '../result.js';
import { runExperiments } from './run.js';

export const experiments: Bench = {
  name: 'experiments',
  question: "what the article's claims rest on beside the matrix: codecs, connections, headers, compression, balancing",
  async run({ quick }): Promise<Figures> {
    const results = await runExperiments({ quick });
    const figures: Record<string, number> = {};
    for (const { name, method, figures: own } of results) {
      say(`\n${name}: ${method}`);
      for (const [figure, value] of Object.entries(own)) {
        say(`  ${figure.padEnd(44)} ${Number(value.toPrecision(4))}`);
        figures[`${name}.${figure}`] = value;
      }
    }
    return figures;
  },
};
