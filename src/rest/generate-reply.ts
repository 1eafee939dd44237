/**
 * Responses as Triton's generate extension writes them: one JSON object, each output a member of its own.
 *
 * Called by `generate-route.ts` from within the engine's `onResponse`, while the outputs are lent: they are printed before it returns.
 */
import { ServeError } from '../base/errors.js';
import type { JsonWriter } from '../base/json-writer.js';
import { elementCount } from '../base/tensor-json.js';
import { printData, quote } from '../base/tensor-json-print.js';
import type { InferResponse } from '../engine/types.js';

/**
 * `{"id"?,"model_name","model_version",<output>: ...}`, an output of one element as that element, any other as a flat array. `writer` is
 * used as scratch memory and left empty. Throws INVALID_ARGUMENT for outputs that JSON can't carry, RESOURCE_EXHAUSTED past `maxBytes`.
 */
export function printGenerated(response: InferResponse, writer: JsonWriter, maxBytes: number): string {
  const { id, modelName, modelVersion, outputs } = response;
  let bytes = 0;
  for (const { data } of outputs) bytes += data.length;
  if (bytes > maxBytes) {
    throw new ServeError(
      'RESOURCE_EXHAUSTED',
      `outputs of model '${modelName}' take ${bytes} bytes, the generate extension sends at most ${maxBytes}; infer sends more`,
    );
  }
  writer.at = 0;
  const head = id === '' ? '{' : `{"id":${quote(id)},`;
  writer.text(`${head}"model_name":${quote(modelName)},"model_version":${quote(modelVersion)}`);
  for (const output of outputs) {
    const isScalar = elementCount(output.shape) === 1;
    writer.text(`,${quote(output.name)}:${isScalar ? '' : '['}`);
    printData(writer, { ...output, binaryDataSize: 0 });
    if (!isScalar) writer.text(']');
  }
  writer.text('}');
  const text = writer.buffer.toString('utf8', 0, writer.at);
  writer.at = 0;
  return text;
}
