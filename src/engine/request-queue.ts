/**
 * The requests of one model that wait for a batch: by group (what may run together) and priority level, first in first out.
 *
 *   group "3,224,224"   level 1: [e1 e4]   level 2: [e7]
 *   group "3,64,64"     level 1: [e2 e3]
 *
 * Of a group of texts, whose lengths differ, not the first ones run together but those of similar length (length-window.ts).
 *
 * Called by the scheduler. Owns queued entries, their order and the queue's bounds; asks the batcher what to do, keeps no timers.
 * Bounds are exact: a request that would pass one is refused at once.
 */
import { ServeError } from '../base/errors.js';
import { type BatchPolicy, type Decision, decide, type GroupView } from './batcher.js';
import type { Entry } from './entry.js';
import { type LengthWindow, lengthWindow } from './length-window.js';

export interface QueueBounds {
  /** Most requests waiting in a priority level; 0 = no bound. */
  readonly maxCount: (level: number) => number;
  /** Most bytes of inputs waiting, over all levels; 0 = no bound. */
  readonly maxBytes: number;
}

/** What the scheduler may do now with this queue. */
export type Proposal =
  | { readonly kind: 'dispatch'; readonly entries: readonly Entry[] }
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'idle' };

interface Group {
  /** Entries by place: two for each level, the second for those whose timeout has passed (timeout action DELAY). */
  readonly places: Entry[][];
}

/** Expected compute time of a batch of `rows`, in milliseconds; `longest` as in batch-plan.ts. */
export interface Estimates {
  estimateMs(rows: number, longest: number): number;
}

const IDLE: Proposal = { kind: 'idle' };

export class RequestQueue {
  readonly #bounds: QueueBounds;
  readonly #levelCount: number;
  readonly #groups = new Map<string, Group>();
  /** Entries to run alone, before all others: they have waited once already. */
  readonly #alone: Entry[] = [];
  readonly #countByLevel: number[];
  #count = 0;
  #bytes = 0;

  constructor(bounds: QueueBounds, levelCount: number) {
    this.#bounds = bounds;
    this.#levelCount = levelCount;
    this.#countByLevel = new Array<number>(levelCount + 1).fill(0);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Requests that it may hold, of all levels together; 0 = no bound. */
  get limit(): number {
    const first = Math.min(1, this.#levelCount);
    let sum = 0;
    for (let level = first; level <= this.#levelCount; level++) {
      const maxCount = this.#bounds.maxCount(level);
      if (maxCount === 0) return 0;
      sum += maxCount;
    }
    return sum;
  }

  /** Puts an entry at the end of its level; throws UNAVAILABLE with Triton's text when the queue is full. */
  push(entry: Entry, modelName: string): void {
    const maxCount = this.#bounds.maxCount(entry.level);
    if (maxCount > 0 && this.#countByLevel[entry.level]! >= maxCount) {
      throw new ServeError('UNAVAILABLE', `Exceeds maximum queue size (${maxCount}) of model '${modelName}'`);
    }
    if (this.#bounds.maxBytes > 0 && this.#count > 0 && this.#bytes + entry.byteLength > this.#bounds.maxBytes) {
      throw new ServeError(
        'UNAVAILABLE',
        `Exceeds maximum queue size in bytes (${this.#bounds.maxBytes}) of model '${modelName}'`,
      );
    }
    this.#levelOf(entry).push(entry);
    this.#add(entry, 1);
  }

  /** Puts back an entry whose batch failed; never refused. */
  pushAlone(entry: Entry): void {
    this.#alone.push(entry);
    this.#add(entry, 1);
  }

  /** Takes a queued entry out. */
  remove(entry: Entry): void {
    const list = entry.alone ? this.#alone : this.#levelOf(entry);
    const at = list.indexOf(entry);
    if (at < 0) return;
    list.splice(at, 1);
    this.#add(entry, -1);
    this.#dropIfEmpty(entry.groupKey);
  }

  /** Takes out what was proposed, in one pass over each list that it was in. */
  take(entries: readonly Entry[]): void {
    const first = entries[0]!;
    if (entries.length === 1) {
      this.remove(first);
      return;
    }
    const taken = new Set(entries);
    for (const place of this.#groups.get(first.groupKey)!.places) {
      let kept = 0;
      let at = 0;
      for (; at < place.length && taken.size > 0; at++) {
        const entry = place[at]!;
        if (taken.delete(entry)) this.#add(entry, -1);
        else place[kept++] = entry;
      }
      place.splice(kept, at - kept);
    }
    this.#dropIfEmpty(first.groupKey);
  }

  /** Lets all others of its level go first (timeout action DELAY). */
  delay(entry: Entry): void {
    const list = this.#levelOf(entry);
    const at = list.indexOf(entry);
    if (at < 0) return;
    list.splice(at, 1);
    entry.delayed = true;
    this.#levelOf(entry).push(entry);
  }

  /** What to do now: the first group in order of priority and age that can go, else the earliest time at which one will. */
  propose(now: number, policy: BatchPolicy, times: Estimates, fullOnly: boolean): Proposal {
    const alone = this.#alone[0];
    if (alone) return fullOnly ? IDLE : { kind: 'dispatch', entries: [alone] };
    let untilMs = Number.POSITIVE_INFINITY;
    for (const group of this.#inOrder()) {
      const isWindow = policy.dynamic && isText(group);
      if (isWindow && fullOnly && isSmall(group, policy)) return IDLE;
      const window = isWindow ? lengthWindow(group.places, policy.maxBatchSize) : undefined;
      const head = window?.entries ?? entriesOf(group, policy.maxBatchSize);
      const longest = window?.longest ?? 0;
      const view = window ? windowView(window, policy.maxBatchSize) : viewOf(head);
      const decision: Decision = decide(view, now, policy, (rows) => times.estimateMs(rows, longest), fullOnly);
      if (decision.kind === 'dispatch') {
        if (decision.count === head.length) return { kind: 'dispatch', entries: head };
        if (!window) return { kind: 'dispatch', entries: head.slice(0, decision.count) };
        // A preferred size: a window of its own, since part of one may be more padding than the whole.
        const rows = view.rows.slice(0, decision.count).reduce((sum, own) => sum + own, 0);
        return { kind: 'dispatch', entries: lengthWindow(group.places, rows).entries };
      }
      // What can still grow does not go behind a running batch; and what comes after it must not either, or it would never have its turn.
      if (fullOnly) return IDLE;
      if (decision.kind === 'wait') untilMs = Math.min(untilMs, decision.untilMs);
    }
    return untilMs < Number.POSITIVE_INFINITY ? { kind: 'wait', untilMs } : IDLE;
  }

  /** All queued entries, for drain and shutdown. */
  entries(): Entry[] {
    const all = [...this.#alone];
    for (const { places } of this.#groups.values()) for (const place of places) all.push(...place);
    return all;
  }

  /** Groups by their best level, then by who waits longest there. */
  #inOrder(): Iterable<Group> {
    if (this.#groups.size <= 1) return this.#groups.values();
    const rank = (group: Group): [number, number] => {
      const place = group.places.findIndex((entries) => entries.length > 0);
      return [place, group.places[place]?.[0]?.request.timeline.queued ?? 0];
    };
    return [...this.#groups.values()]
      .map((group) => ({ group, rank: rank(group) }))
      .sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1])
      .map(({ group }) => group);
  }

  #levelOf(entry: Entry): Entry[] {
    let group = this.#groups.get(entry.groupKey);
    if (!group) {
      group = { places: Array.from({ length: 2 * this.#levelCount + 2 }, () => []) };
      this.#groups.set(entry.groupKey, group);
    }
    return group.places[2 * entry.level + (entry.delayed ? 1 : 0)]!;
  }

  #add(entry: Entry, sign: 1 | -1): void {
    this.#count += sign;
    this.#bytes += sign * entry.byteLength;
    this.#countByLevel[entry.level]! += sign;
  }

  #dropIfEmpty(groupKey: string): void {
    const group = this.#groups.get(groupKey);
    if (group?.places.every((entries) => entries.length === 0)) this.#groups.delete(groupKey);
  }
}

/** Entries of a group in the order they would run: enough to pass `maxRows`, or all. */
function entriesOf(group: Group, maxRows: number): Entry[] {
  const entries: Entry[] = [];
  let rows = 0;
  for (const place of group.places) {
    for (const entry of place) {
      entries.push(entry);
      rows += entry.rows;
      if (rows > maxRows) return entries;
    }
  }
  return entries;
}

/** Whether its entries were made from text; then all are. */
function isText({ places }: Group): boolean {
  for (const place of places) if (place.length > 0) return place[0]!.rowTokens !== undefined;
  return false;
}

/** Whether all that waits in a group is no full batch yet: asked of each request that comes while a batch runs, so in passing. */
function isSmall({ places }: Group, policy: BatchPolicy): boolean {
  const full = policy.preferredBatchSizes.at(-1) ?? policy.maxBatchSize;
  let rows = 0;
  for (const place of places) {
    for (const entry of place) {
      rows += entry.rows;
      if (rows >= full) return false;
    }
  }
  return true;
}

/**
 * A window as the batcher sees it. Whoever was looked at and left out still counts for time: while the head waited for company, its
 * deadline would pass. One that was left out only for its rows is shown behind the others, so that the batch is seen to be full.
 */
function windowView({ entries, seen, overflow }: LengthWindow<Entry>, maxRows: number): GroupView {
  const { rows: all, oldestMs, tightestDeadlineMs } = viewOf(seen);
  const rows = entries.map((entry) => entry.rows);
  if (overflow > 0) rows.push(overflow);
  const crowded = all.reduce((sum, own) => sum + own, 0) >= maxRows;
  return { rows, oldestMs, tightestDeadlineMs, crowded };
}

function viewOf(entries: readonly Entry[]): GroupView {
  const rows: number[] = [];
  let oldestMs = Number.POSITIVE_INFINITY;
  let tightestDeadlineMs = Number.POSITIVE_INFINITY;
  for (const { rows: own, request, expiresMs } of entries) {
    rows.push(own);
    oldestMs = Math.min(oldestMs, request.timeline.queued);
    tightestDeadlineMs = Math.min(tightestDeadlineMs, request.deadlineMs, expiresMs);
  }
  return { rows, oldestMs, tightestDeadlineMs };
}
