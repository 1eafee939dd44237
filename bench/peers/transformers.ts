/**
 * transformers.js, generating for several prompts at once: one batch, since it has no other way.
 *
 * Started by `bench/stream-peers.ts` as a process of its own and driven over IPC: a PeerRequest in, a PeerReply out.
 */
import { AutoModelForCausalLM, env, Tensor } from '@huggingface/transformers';

/** As in `bench/stream-peers.ts`; this folder is a package of its own. */
interface PeerRequest {
  /** Directory that holds the folder `llama`, and the GGUF file beside it. */
  readonly directory: string;
  readonly streams: number;
  readonly promptTokens: number;
  readonly tokens: number;
}

type Model = Awaited<ReturnType<typeof AutoModelForCausalLM.from_pretrained>>;
let model: Model | undefined;

process.on('message', async ({ directory, streams, promptTokens, tokens }: PeerRequest) => {
  env.localModelPath = directory;
  env.allowRemoteModels = false;
  model ??= await AutoModelForCausalLM.from_pretrained('llama', {
    dtype: 'fp32',
    device: 'cpu',
    session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 },
  });
  const shape = [streams, promptTokens];
  const ids = BigInt64Array.from({ length: streams * promptTokens }, (_, i) => BigInt(1 + ((i * 31) % 256)));
  const began = performance.now();
  const output = (await model.generate({
    inputs: new Tensor('int64', ids, shape),
    attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), shape),
    do_sample: false,
    max_new_tokens: tokens,
    min_new_tokens: tokens,
  })) as Tensor;
  const made = streams * (output.dims[1]! - promptTokens);
  process.send!({ tokensPerSecond: made / ((performance.now() - began) / 1000), made });
});
process.once('disconnect', () => process.exit(0));
process.send!('ready');
