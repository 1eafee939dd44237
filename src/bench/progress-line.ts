/**
 * Progress of a run for whoever waits: one line that is written anew on a terminal, a line now and then elsewhere.
 *
 * Called by the command and `npm run bench`. Owns the current line of the stream; every other text must come through `say`.
 */
import type { Progress } from './run-cells.js';

/** What it needs of a stream. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Between two lines where they can't be rewritten. */
const PLAIN_EVERY_MS = 10_000;
const CLEAR = '\r\x1b[2K';

export class ProgressLine {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  #open = false;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(stream: ProgressStream, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  show(progress: Progress): void {
    const text = progressText(progress);
    const { isTTY, columns: told } = this.#stream;
    if (isTTY) {
      // Terminals that don't know their width say 0.
      const columns = told || 80;
      this.#stream.write(`${CLEAR}${text.length < columns ? text : `${text.slice(0, Math.max(0, columns - 2))}…`}`);
      this.#open = true;
      return;
    }
    if (this.#now() - this.#toldAt < PLAIN_EVERY_MS) return;
    this.#toldAt = this.#now();
    this.#stream.write(`${text}\n`);
  }

  /** Lines that stay. */
  say(text: string): void {
    this.end();
    this.#stream.write(`${text}\n`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#open) this.#stream.write(CLEAR);
    this.#open = false;
  }
}

/** `12 of 60 cells, 3 min left: text_embedding 2 KB, 8 at a time, round 2 of 5, grpc_raw`. */
export function progressText({ done, total, unit = 'cells', what, secondsLeft }: Progress): string {
  const left = secondsLeft === undefined ? '' : `, ${duration(secondsLeft)} left`;
  return `${done} of ${total} ${unit}${left}: ${what}`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
