/**
 * What genai_config.json says, which ONNX Runtime GenAI's builder puts beside a decoder: its file, the names of its tensors, its end.
 *
 * Called by huggingface-generation.ts and, for the file's name, by the loader. Pure. Everything that throws throws INVALID_ARGUMENT naming
 * file and field.
 */
import type { DecoderNames } from '../runtime/generation-messages.js';
import type { JsonFields } from './huggingface-json.js';
import { tokenIds } from './huggingface-sampling.js';

export interface GenaiConfig {
  /** '' where it is not said. */
  readonly modelType: string;
  /** Of the decoder, relative to the configuration. */
  readonly filename: string | undefined;
  /** Those that it gives. */
  readonly names: Partial<DecoderNames>;
  readonly eosTokenIds: readonly number[];
  readonly contextLength: number | undefined;
  readonly slidingWindow: number | undefined;
  readonly headSize: number | undefined;
  /** Defaults of a request, under the names of generation_config.json. */
  readonly search: JsonFields | undefined;
}

export function parseGenai(file: JsonFields): GenaiConfig {
  const model = file.object('model');
  if (model === undefined) throw file.wrong('model', 'an object');
  const decoder = model.object('decoder');
  if (decoder === undefined) throw model.wrong('decoder', 'an object: only models with a decoder are served');
  // A list of files, each with a part of the layers.
  if (decoder.has('pipeline')) throw decoder.wrong('pipeline', 'absent: a decoder in several ONNX files is not served');
  return {
    modelType: model.string('type') ?? '',
    filename: decoder.string('filename'),
    names: names(decoder),
    eosTokenIds: tokenIds(model, 'eos_token_id'),
    contextLength: model.integer('context_length', 1),
    slidingWindow: decoder.object('sliding_window')?.integer('window_size', 1),
    headSize: decoder.integer('head_size', 1),
    search: file.object('search'),
  };
}

function names(decoder: JsonFields): Partial<DecoderNames> {
  const inputs = decoder.object('inputs');
  const outputs = decoder.object('outputs');
  const given = {
    inputIds: inputs?.string('input_ids'),
    attentionMask: inputs?.string('attention_mask'),
    positionIds: inputs?.string('position_ids'),
    logits: outputs?.string('logits'),
    pastKey: layered(inputs, 'past_key_names'),
    pastValue: layered(inputs, 'past_value_names'),
    presentKey: layered(outputs, 'present_key_names'),
    presentValue: layered(outputs, 'present_value_names'),
  };
  return Object.fromEntries(Object.entries(given).filter(([, name]) => name !== undefined));
}

/** A name with a place for the layer. */
function layered(file: JsonFields | undefined, field: string): string | undefined {
  const name = file?.string(field);
  if (name !== undefined && name.split('%d').length !== 2) throw file!.wrong(field, "a name with '%d' for the layer");
  return name;
}
