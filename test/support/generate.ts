/** Text from a real engine's model, and folders of the shipped one in other clothes. */
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { nowMs } from '../../src/base/clock.js';
import { Timeline } from '../../src/base/timeline.js';
import type { InferenceEngine } from '../../src/engine/engine.js';
import type {
  GenerateCall,
  GeneratedDelta,
  GenerateRequest,
  GenerationEnd,
} from '../../src/engine/generation-types.js';

export interface Generated {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly end: GenerationEnd;
}

export interface Generating {
  readonly call: GenerateCall;
  /** Resolves with the first delta. */
  readonly first: Promise<GeneratedDelta>;
  readonly done: Promise<Generated>;
}

export type Wish = Partial<GenerateRequest> & Pick<GenerateRequest, 'modelName' | 'prompt'>;

/** Starts a greedy stream, whatever the model's files say; all deltas are taken at once. */
export function startGenerating(engine: InferenceEngine, wish: Wish): Generating {
  const timeline = new Timeline(nowMs());
  timeline.lastByte = timeline.decoded = timeline.firstByte;
  const tokens: number[] = [];
  let text = '';
  const first = Promise.withResolvers<GeneratedDelta>();
  const done = Promise.withResolvers<Generated>();
  // Either may be all that a test waits for.
  first.promise.catch(() => undefined);
  done.promise.catch(() => undefined);
  let call: GenerateCall | undefined;
  call = engine.generate(
    {
      modelVersion: '',
      sampling: {},
      protocol: 'grpc',
      clientKey: '',
      deadlineMs: Number.POSITIVE_INFINITY,
      ...wish,
      ...(wish.sampling?.temperature === undefined && { sampling: { ...wish.sampling, temperature: 0 } }),
      timeline,
    },
    {
      onDelta: (delta) => {
        tokens.push(delta.tokenId);
        text += delta.text;
        first.resolve(delta);
        call?.taken(1);
        if (delta.end) done.resolve({ text, tokens, end: delta.end });
      },
      onError: (error) => {
        first.reject(error);
        done.reject(error);
      },
    },
  );
  return { call, first: first.promise, done: done.promise };
}

/** As {@link startGenerating}, to the end. */
export function generate(engine: InferenceEngine, wish: Wish): Promise<Generated> {
  return startGenerating(engine, wish).done;
}

export interface StoriesOptions {
  /** Where the files lie: as they are shipped, or the ONNX files in a version's folder and the others above it. */
  readonly layout?: 'hub' | 'triton';
  /** Files by path, in place of those there; undefined takes one away. */
  readonly files?: Readonly<Record<string, string | undefined>>;
}

/** Puts the shipped language model into `repository` as `name`; returns its folder. */
export function writeStories(
  repository: string,
  name: string,
  { layout = 'hub', files = {} }: StoriesOptions = {},
): string {
  const directory = join(repository, name);
  const source = join(import.meta.dirname, '../../models/stories');
  cpSync(source, directory, { recursive: true });
  if (layout === 'triton') {
    cpSync(join(source, 'onnx'), join(directory, '1'), { recursive: true });
    rmSync(join(directory, 'onnx'), { recursive: true });
  }
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    if (content === undefined) rmSync(join(directory, path));
    else writeFileSync(join(directory, path), content);
  }
  return directory;
}
