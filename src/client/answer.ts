/**
 * An answer as it was decoded, and what the caller gets of it.
 *
 * Made by the decoders of both transports. Outputs may be views on the received message, which the answer then keeps alive. Must not
 * know a protocol.
 */
import type { Datatype } from '../base/datatype.js';
import type { Budget } from './budget.js';
import { ClientError } from './client-error.js';
import type { InferAnswer, OutputTensor, ParameterValue, TensorData } from './types.js';

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

/** An output whose array is the one of its datatype, which types can't follow. */
export function createOutput(output: {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}): OutputTensor {
  return output as OutputTensor;
}

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

  output(name: string): OutputTensor;
  output<Type extends Datatype>(name: string, datatype: Type): OutputTensor<Type>;
  output(name: string, datatype?: Datatype): OutputTensor {
    for (const output of this.outputs) {
      if (output.name !== name) continue;
      if (datatype === undefined || output.datatype === datatype) return output;
      const message = `output '${name}' of model '${this.model}' is ${output.datatype}, not ${datatype}`;
      throw new ClientError('INVALID_ARGUMENT', message, { local: true });
    }
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
