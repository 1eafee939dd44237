/**
 * Who is next: the first of each client in turn, so that one client with many requests doesn't hold up another with one.
 *
 * Called by workers/token-stream.ts. Owns the order of what waits, nothing of it.
 */

export interface Waiting {
  readonly clientKey: string;
}

export class WaitingLine<Item extends Waiting> {
  /** Clients in the order of their turns; a set keeps the order of arrival and lets one leave from its middle. */
  readonly #clients = new Map<string, Set<Item>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(item: Item): void {
    const line = this.#clients.get(item.clientKey);
    if (line) line.add(item);
    else this.#clients.set(item.clientKey, new Set([item]));
    this.#size++;
  }

  /** The one whose turn it is. */
  peek(): Item | undefined {
    for (const line of this.#clients.values()) for (const item of line) return item;
    return undefined;
  }

  /** Takes the one whose turn it is; its client is last now. */
  shift(): Item | undefined {
    const item = this.peek();
    if (!item) return undefined;
    const line = this.#clients.get(item.clientKey)!;
    this.#clients.delete(item.clientKey);
    line.delete(item);
    if (line.size > 0) this.#clients.set(item.clientKey, line);
    this.#size--;
    return item;
  }

  /** Takes one that doesn't wait any more. */
  remove(item: Item): void {
    const line = this.#clients.get(item.clientKey);
    if (!line?.delete(item)) return;
    if (line.size === 0) this.#clients.delete(item.clientKey);
    this.#size--;
  }
}
