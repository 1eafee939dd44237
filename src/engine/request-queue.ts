/**
 * The requests of one model that wait for a batch: by group (what may run together) and priority level, first in first out.
 *
 *   group "3,224,224"   level 1: [e1 e4]   level 2: [e7]
 *   group "3,64,64"     level 1: [e2 e3]
 *
 * Called by the scheduler. Owns queued entries, their order and the queue's bounds; asks the batcher what to do, keeps no timers.
 * Bounds are exact: a request that would pass one is refused at once.
 */
import { ServeError } from '../base/errors.js';
import { type BatchPolicy, type Decision, decide } from './batcher.js';
import type { Entry } from './entry.js';

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
  propose(now: number, policy: BatchPolicy, estimateMs: (rows: number) => number, fullOnly: boolean): Proposal {
    const alone = this.#alone[0];
    if (alone) return fullOnly ? IDLE : { kind: 'dispatch', entries: [alone] };
    let untilMs = Number.POSITIVE_INFINITY;
    for (const group of this.#inOrder()) {
      const head = entriesOf(group, policy.maxBatchSize);
      const decision: Decision = decide(viewOf(head), now, policy, estimateMs, fullOnly);
      if (decision.kind === 'dispatch') return { kind: 'dispatch', entries: head.slice(0, decision.count) };
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

function viewOf(entries: readonly Entry[]): { rows: number[]; oldestMs: number; tightestDeadlineMs: number } {
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
