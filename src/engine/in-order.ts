/**
 * Holds back what is finished too early: for models with `preserve_ordering`, batches are answered in the order they were sent.
 *
 * Called by the scheduler. Owns the list of batches that are not answered yet, for each such model; a held batch keeps its lease.
 */
import type { Batch } from './batch.js';
import type { Model } from './model.js';

export class InOrder {
  readonly #sent = new Map<Model, { readonly id: number; finish?: () => void }[]>();

  /** `batch` has been sent; the results of later ones wait for it. */
  expect({ model, id }: Batch): void {
    const list = this.#sent.get(model);
    if (list) list.push({ id });
    else this.#sent.set(model, [{ id }]);
  }

  /** Runs `finish` now, or once every batch expected before this one has finished. A batch never expected runs at once. */
  finish({ model, id }: Batch, finish: () => void): void {
    const list = this.#sent.get(model);
    const own = list?.find((item) => item.id === id);
    if (!list || !own) {
      finish();
      return;
    }
    own.finish = finish;
    while (list[0]?.finish) list.shift()!.finish!();
    if (list.length === 0) this.#sent.delete(model);
  }
}
