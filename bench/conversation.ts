/**
 * A file of `servers/` or `peers/` in a process of its own that is asked one thing at a time over IPC.
 *
 * Used by the benches. The other side says 'ready' once, then answers every message with one, and ends when it is let go.
 */
import { spawnServer } from './peer.js';
import { BenchError } from './result.js';

export interface Conversation<Request, Reply> {
  /** Rejects when the process ends without an answer. Ask again only when answered. */
  ask(request: Request): Promise<Reply>;
  end(): void;
}

export function converse<Request extends object, Reply>(file: string): Conversation<Request, Reply> {
  const child = spawnServer(file, [], ['ignore', 'inherit', 'inherit', 'ipc']);
  const heard = <Message>(): Promise<Message> =>
    new Promise((resolve, reject) => {
      const died = (code: number | null): void => reject(new BenchError(`bench/${file} ended with ${code}`));
      child.once('exit', died);
      child.once('message', (message) => {
        child.off('exit', died);
        resolve(message as Message);
      });
    });
  const ready = heard<'ready'>();
  ready.catch(() => undefined);
  return {
    async ask(request) {
      await ready;
      const reply = heard<Reply>();
      child.send(request);
      return reply;
    },
    end: () => void (child.connected && child.disconnect()),
  };
}
