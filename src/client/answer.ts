/**
 * An answer as it was decoded, and what the caller gets of it.
 *
 * Made by the decoders of both transports. Outputs may be views on the received message, which the answer then keeps alive. Must not
 * know a protocol.
 */
import type { Budget } from './budget.js';
import { ClientError } from './client-error.js';
import type { InferAnswer, OutputTensor, ParameterValue } from './types.js';

export interface DecodedAnswer {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly outputs: readonly OutputTensor[];
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}

/** The largest answer taken where the client's options say nothing, inflated. */
export const DEFAULT_MAX_RECEIVE_BYTES = 256 * 1024 * 1024;

/** What an answer without parameters has; never written to. */
export const NO_PARAMETERS: Readonly<Record<string, ParameterValue>> = Object.freeze({});

export function createAnswer(decoded: DecodedAnswer, budget: Budget): InferAnswer {
  return new Answer(decoded, budget);
}

class Answer implements InferAnswer {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly outputs: readonly OutputTensor[];
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  readonly budget: Budget;

  constructor(decoded: DecodedAnswer, budget: Budget) {
    this.model = decoded.model;
    this.version = decoded.version;
    this.id = decoded.id;
    this.outputs = decoded.outputs;
    this.parameters = decoded.parameters;
    this.budget = budget;
  }

  output(name: string): OutputTensor {
    for (const output of this.outputs) if (output.name === name) return output;
    const names = this.outputs.map((output) => `'${output.name}'`).join(', ') || 'none';
    throw new ClientError(
      'NOT_FOUND',
      `the answer of model '${this.model}' has no output '${name}', there are: ${names}`,
      {
        local: true,
      },
    );
  }
}
