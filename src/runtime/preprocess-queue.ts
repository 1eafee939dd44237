/**
 * What waits for a preprocess thread: two lines, one for what is quick and one for what is not, so that a text of ten words need not
 * wait for a hundred pictures.
 *
 * Called by `runtime/preprocess-pool.ts`. Owns the order, the bounds and the links in the waiting things. Knows no thread and no message.
 */

/** Something that can wait. The links are the queue's own: a thing that is taken or removed has neither. */
export interface Waiting {
  readonly bytes: number;
  /** Takes long: goes alone, in the line of those. */
  readonly heavy: boolean;
  queued: boolean;
  before: Waiting | undefined;
  after: Waiting | undefined;
}

interface Line {
  first: Waiting | undefined;
  last: Waiting | undefined;
}

export class PreprocessQueue<Item extends Waiting> {
  readonly #light: Line = { first: undefined, last: undefined };
  readonly #heavy: Line = { first: undefined, last: undefined };
  #count = 0;
  #bytes = 0;

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(item: Item): void {
    const line = item.heavy ? this.#heavy : this.#light;
    item.queued = true;
    item.before = line.last;
    if (line.last) line.last.after = item;
    else line.first = item;
    line.last = item;
    this.#count++;
    this.#bytes += item.bytes;
  }

  /** Idempotent. */
  remove(item: Item): void {
    if (!item.queued) return;
    const line = item.heavy ? this.#heavy : this.#light;
    if (item.before) item.before.after = item.after;
    else line.first = item.after;
    if (item.after) item.after.before = item.before;
    else line.last = item.before;
    item.before = undefined;
    item.after = undefined;
    item.queued = false;
    this.#count--;
    this.#bytes -= item.bytes;
  }

  /** The oldest of a line, of the other one where that is empty; it stays where it is. */
  first(heavy: boolean): Item | undefined {
    const [line, other] = heavy ? [this.#heavy, this.#light] : [this.#light, this.#heavy];
    return (line.first ?? other.first) as Item | undefined;
  }
}
