/**
 * The printer of embeddings replies: OpenAI's JSON, vectors as numbers or as base64 of little-endian float32.
 *
 * Called by `rest/` for small replies and by the JSON worker for large ones. Numbers have the shortest digits that read back to the
 * same float32.
 */
import type { EmbeddingsReply } from './embeddings-json.js';
import { ServeError } from './errors.js';
import { type JsonWriter, NUMBER_BYTES } from './json-writer.js';

/** The reply's JSON. Throws INTERNAL for a vector that JSON can't carry. `writer` is used as scratch memory and left empty. */
export function printEmbeddings(reply: EmbeddingsReply, writer: JsonWriter): Buffer<ArrayBuffer> {
  const { count, vectors, promptTokens } = reply;
  const width = vectors.length / count;
  writer.at = 0;
  let text = '{"object":"list","data":[';
  for (let index = 0; index < count; index++) {
    writer.text(`${text}{"object":"embedding","index":${index},"embedding":`);
    const vector = vectors.subarray(index * width, (index + 1) * width);
    if (reply.encodingFormat === 'base64') printBase64(writer, vector);
    else printNumbers(writer, vector, index);
    text = '},';
  }
  const model = JSON.stringify(reply.model.toWellFormed());
  const usage = `{"prompt_tokens":${promptTokens},"total_tokens":${promptTokens}}`;
  writer.text(`}],"model":${model},"usage":${usage}}`);
  return writer.take();
}

function printBase64(writer: JsonWriter, { buffer, byteOffset, byteLength }: Float32Array<ArrayBuffer>): void {
  const text = Buffer.from(buffer, byteOffset, byteLength).toString('base64');
  writer.reserve(text.length + 2);
  writer.byte(0x22);
  writer.at += writer.buffer.write(text, writer.at, 'latin1');
  writer.byte(0x22);
}

function printNumbers(writer: JsonWriter, vector: Float32Array<ArrayBuffer>, index: number): void {
  writer.reserve(NUMBER_BYTES * vector.length + 2);
  writer.byte(0x5b);
  for (let i = 0; i < vector.length; i++) {
    const value = vector[i]!;
    if (!Number.isFinite(value)) {
      throw new ServeError(
        'INTERNAL',
        `the model's embedding of input ${index} holds ${value}, which JSON has no number for; encoding_format 'base64' has`,
      );
    }
    if (i > 0) writer.byte(0x2c);
    writer.float32(value);
  }
  writer.byte(0x5d);
}
