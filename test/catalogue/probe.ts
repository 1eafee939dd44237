/** Starts the probe beside a server and asks it what it saw. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** Since the last mark. */
export interface Seen {
  /** The longest wait for a health answer (gRPC and REST): the main thread's longest stall, as a client sees it. */
  readonly healthMs: number;
  /** The longest wait for an inference, which may also wait for a worker. */
  readonly inferMs: number;
  readonly rounds: number;
  /** Answers that were wrong or missing. */
  readonly wrong: readonly string[];
}

export interface Probe {
  mark(): Promise<Seen>;
  stop(): void;
}

/** Resolves when the probe has had its first answers. */
export async function startProbe(grpcPort: number, httpPort: number): Promise<Probe> {
  const child = fork(fileURLToPath(new URL('./probe.mjs', import.meta.url)), [String(grpcPort), String(httpPort)]);
  await once(child, 'message');
  return {
    async mark() {
      child.send('mark');
      const [seen] = (await once(child, 'message')) as [Seen];
      return seen;
    },
    stop: () => void child.disconnect(),
  };
}
