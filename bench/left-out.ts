/**
 * The sentence that a report has about what a quick run on a busy machine did not come to.
 *
 * Used by the matrix and the experiments.
 */

/** `what`: cells, experiments. Names them all: nobody should look for one in vain. */
export function leftOutNote(what: string, names: readonly string[]): string {
  return `The time of a quick run was over, so these ${what} are left out: ${names.join('; ')}.`;
}
