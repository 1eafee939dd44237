/**
 * The tensors by which a model that generates text is asked over the Open Inference Protocol: names and types of Triton's language model
 * backends, which their clients send and expect.
 *
 * Called by the loader, which shows them as the model's inputs and outputs, and by generation-request.ts, which reads them.
 */
import type { Datatype } from '../base/datatype.js';

export interface GenerationTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly dims: readonly number[];
}

/** The prompt; all others may be left out. */
export const PROMPT_TENSOR = 'text_input';

/** What metadata and configuration show; the request may have more (FIELDS of generation-fields.ts), each under its own name. */
export const GENERATION_INPUTS: readonly GenerationTensor[] = [
  { name: PROMPT_TENSOR, datatype: 'BYTES', dims: [1] },
  { name: 'stream', datatype: 'BOOL', dims: [1] },
  { name: 'sampling_parameters', datatype: 'BYTES', dims: [1] },
  { name: 'exclude_input_in_output', datatype: 'BOOL', dims: [1] },
  { name: 'max_tokens', datatype: 'INT32', dims: [1] },
  { name: 'return_finish_reason', datatype: 'BOOL', dims: [1] },
  { name: 'return_cumulative_logprob', datatype: 'BOOL', dims: [1] },
  { name: 'return_logprobs', datatype: 'BOOL', dims: [1] },
  { name: 'return_num_input_tokens', datatype: 'BOOL', dims: [1] },
  { name: 'return_num_output_tokens', datatype: 'BOOL', dims: [1] },
];

export const GENERATION_OUTPUTS = [
  { name: 'text_output', datatype: 'BYTES', dims: [-1] },
  { name: 'finish_reason', datatype: 'BYTES', dims: [-1] },
  { name: 'cumulative_logprob', datatype: 'FP32', dims: [-1] },
  { name: 'logprobs', datatype: 'BYTES', dims: [-1] },
  { name: 'num_input_tokens', datatype: 'UINT32', dims: [1] },
  { name: 'num_output_tokens', datatype: 'UINT32', dims: [-1] },
  /** Of the tokens that the response has: their ids, and the model's own outputs for them. */
  { name: 'token_id', datatype: 'INT32', dims: [-1] },
  { name: 'token_logit', datatype: 'FP32', dims: [-1] },
] as const satisfies readonly GenerationTensor[];

export type GenerationOutput = (typeof GENERATION_OUTPUTS)[number]['name'];
