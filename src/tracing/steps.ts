/**
 * The steps of a request as spans show them, from its timeline: which there are, and from when to when.
 *
 *   |--receive--|--decode--|--admit--|--preprocess--|--queue--|--batch------------------|--encode--|--send--|
 *                                                             |  gather |-compute-| hand out|
 *
 * Called by `open-trace.ts` once a sampled request has ended. They follow each other without a gap, as the phases of the budget do
 * (`base/timeline.ts`), and `compute` lies inside `batch`. For generated text there is no batch: `prefill` and `compute` stand alone.
 */
import type { Timeline } from '../base/timeline.js';

export interface Step {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  /** Position of the step that it lies in; undefined = the request itself. */
  readonly inside?: number;
}

/** Steps that are hardly ever worth a span are left out when they took less. */
const WORTH_A_SPAN_MS = 0.1;

/** The steps of a request whose reply was out at `closedMs`. */
export function stepsOf(timeline: Timeline, closedMs: number): Step[] {
  const steps: Step[] = [];
  let last = timeline.firstByte;
  const step = (name: string, stamp: number, least = 0): void => {
    // Threads read the same clock but not at the same instant.
    if (stamp === 0 || stamp < last) return;
    if (stamp - last >= least) steps.push({ name, startMs: last, endMs: stamp });
    last = stamp;
  };
  step('receive', timeline.lastByte);
  step('decode', timeline.decoded);
  step('admit', timeline.admitted, WORTH_A_SPAN_MS);
  step('preprocess', timeline.queued, WORTH_A_SPAN_MS);
  step('queue', timeline.dispatched);
  if (timeline.firstToken > 0) {
    step('prefill', timeline.firstToken);
    step('compute', timeline.computeEnd);
    last = Math.max(last, timeline.scattered);
  } else if (timeline.computeEnd > 0) {
    const inside = steps.length;
    const startMs = last;
    step('batch', timeline.scattered);
    if (steps.length > inside) {
      const computeStart = clamp(timeline.computeStart, startMs, last);
      steps.push({
        name: 'compute',
        startMs: computeStart,
        endMs: clamp(timeline.computeEnd, computeStart, last),
        inside,
      });
    }
  }
  // The end of a request that was not answered by its model is stamped, too, but nothing was encoded until then.
  if (timeline.scattered > 0) step('encode', timeline.encoded);
  else last = Math.max(last, timeline.encoded);
  step('send', closedMs);
  return steps;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
