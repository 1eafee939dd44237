/**
 * Ends a stream's text at its stop strings: passes on what can't be the beginning of one any more, and keeps back the rest.
 *
 * Called by the token-stream worker behind the detokenizer, with whole characters. The string that is complete first ends the text; of those
 * complete at once the longest, that is the one that began first. Where that text lies in tokens makes no difference to what comes out,
 * but for `includeStop`, where a longer string from the same place is taken if it is there by then.
 *
 * Owns an automaton (Aho and Corasick's) over the strings: a character costs a few steps however many strings there are.
 */

export interface StopStep {
  /** What may be passed on. */
  readonly text: string;
  /** The stop string that has ended the text; nothing comes after it. */
  readonly stopped: string | undefined;
}

/** States of the automaton are the beginnings of stop strings, state 0 the empty one. */
interface Automaton {
  readonly strings: readonly string[];
  /** The state that is one character longer, by state and character. */
  readonly next: ReadonlyMap<number, number>;
  /** By state: its length; the longest shorter state that it ends in; the longest string that it ends in, or -1. */
  readonly depth: readonly number[];
  readonly shorter: readonly number[];
  readonly complete: readonly number[];
}

const CHARACTERS = 0x10000;

export class StopText {
  readonly #automaton: Automaton | undefined;
  readonly #includeStop: boolean;
  /** The beginning of a stop string that `#state` stands for. */
  #held = '';
  #state = 0;

  constructor(stop: readonly string[], includeStop: boolean) {
    // Text is whole characters: half of one in a string would match half of one in the text.
    const strings = stop.map((text) => text.toWellFormed()).filter((text) => text !== '');
    this.#automaton = strings.length > 0 ? automatonOf(strings) : undefined;
    this.#includeStop = includeStop;
  }

  push(text: string): StopStep {
    const automaton = this.#automaton;
    if (!automaton) return { text, stopped: undefined };
    const all = this.#held + text;
    for (let i = this.#held.length; i < all.length; i++) {
      this.#state = after(automaton, this.#state, all.charCodeAt(i));
      const complete = automaton.complete[this.#state]!;
      if (complete >= 0) return this.#stop(automaton, all, i + 1 - automaton.strings[complete]!.length);
    }
    const passed = all.length - automaton.depth[this.#state]!;
    this.#held = all.slice(passed);
    return { text: all.slice(0, passed), stopped: undefined };
  }

  /** The text has ended otherwise: what was kept back. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    this.#state = 0;
    return held;
  }

  #stop(automaton: Automaton, all: string, start: number): StopStep {
    let state: number | undefined = 0;
    let stopped = '';
    for (let i = start; i < all.length; i++) {
      state = automaton.next.get(state * CHARACTERS + all.charCodeAt(i));
      if (state === undefined) break;
      const string: string | undefined = automaton.strings[automaton.complete[state]!];
      if (string?.length === automaton.depth[state]) stopped = string!;
    }
    this.flush();
    return { text: all.slice(0, this.#includeStop ? start + stopped.length : start), stopped };
  }
}

function after(automaton: Automaton, from: number, character: number): number {
  for (let state = from; ; state = automaton.shorter[state]!) {
    const next = automaton.next.get(state * CHARACTERS + character);
    if (next !== undefined) return next;
    if (state === 0) return 0;
  }
}

function automatonOf(strings: readonly string[]): Automaton {
  const next = new Map<number, number>();
  const depth = [0];
  const shorter = [0];
  const complete = [-1];
  const parents = [0];
  const characters = [0];
  strings.forEach((string, index) => {
    let state = 0;
    for (let i = 0; i < string.length; i++) {
      const key = state * CHARACTERS + string.charCodeAt(i);
      let longer = next.get(key);
      if (longer === undefined) {
        longer = depth.push(i + 1) - 1;
        shorter.push(0);
        complete.push(-1);
        parents.push(state);
        characters.push(string.charCodeAt(i));
        next.set(key, longer);
      }
      state = longer;
    }
    complete[state] = index;
  });
  const automaton = { strings, next, depth, shorter, complete };
  // A state is linked after those that are shorter than it.
  const byDepth = [...depth.keys()].slice(1).sort((a, b) => depth[a]! - depth[b]!);
  for (const state of byDepth) {
    if (depth[state]! > 1) shorter[state] = after(automaton, shorter[parents[state]!]!, characters[state]!);
    if (complete[state]! < 0) complete[state] = complete[shorter[state]!]!;
  }
  return automaton;
}
