/**
 * What Hugging Face's files say against what the ONNX model takes: which inputs are made from a text or a picture, and how.
 *
 * Called by huggingface-model.ts once the session's tensors are known. Pure. Throws INVALID_ARGUMENT where a file contradicts the
 * model; where a model can't be given text or pictures for another reason, the result says why, and raw tensors work all the same.
 */
import type { ImageSpec, TextSpec, TokenRole } from '../runtime/preprocess-messages.js';
import type { HubImage } from './huggingface-image.js';
import type { HubTokenizer } from './huggingface-tokenizer.js';
import type { TensorSpec } from './tensor-spec.js';

const ROLES: readonly TokenRole[] = ['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'];

/** A spec, or why there is none. */
export type Matched<T> =
  | { readonly spec: T; readonly problem?: never }
  | { readonly spec?: never; readonly problem: string };

/** How text becomes the model's token tensors; undefined for a model that has none. */
export function matchText(
  tokenizer: HubTokenizer,
  inputs: readonly TensorSpec[],
  batching: boolean,
): Matched<TextSpec> | undefined {
  if (!inputs.some(({ name }) => name === 'input_ids')) return undefined;
  const tensors: TextSpec['tensors'][number][] = [];
  const lengths = new Set<number>();
  for (const role of ROLES) {
    const input = inputs.find(({ name }) => name === role);
    if (input === undefined) continue;
    const { name, datatype, dims } = input;
    const rows = batching || dims.length === 1 ? dims : dims.slice(1);
    if ((datatype !== 'INT64' && datatype !== 'INT32') || rows.length !== 1) {
      return { problem: `input '${name}' is ${datatype} [${dims.join(',')}], tokens need INT64 or INT32 [tokens]` };
    }
    lengths.add(rows[0]!);
    tensors.push({ role, name, datatype });
  }
  if (lengths.size > 1) {
    return { problem: `inputs for tokens have lengths ${[...lengths].join(' and ')}, one is needed` };
  }
  const [length = -1] = lengths;
  const { tokenizerJson, tokenizerConfigJson, maxTokens, paddingSide, padTokenId, padTokenTypeId } = tokenizer;
  return {
    spec: {
      tokenizerJson,
      tokenizerConfigJson,
      ...(length === -1 ? { maxTokens } : { maxTokens: Math.min(maxTokens, length), fixedTokens: length }),
      paddingSide,
      padTokenId,
      padTokenTypeId,
      addSpecialTokens: true,
      tensors,
    },
  };
}

/**
 * What fills the token axis of each input, where it has one. Positions of padding may be any that the model knows, since the mask
 * hides it on whichever side it is. Nothing fills it without a mask, since padding would change what a text gives: such texts run with
 * others of their length. Of a model of one length all texts have that already.
 */
export function tokenPadding(text: TextSpec | undefined, inputs: readonly TensorSpec[]): (number | undefined)[] {
  if (text?.fixedTokens !== undefined || !text?.tensors.some(({ role }) => role === 'attention_mask'))
    return inputs.map(() => undefined);
  const fill = {
    input_ids: text?.padTokenId,
    attention_mask: 0,
    token_type_ids: text?.padTokenTypeId,
    position_ids: 0,
  };
  return inputs.map(({ name }) => {
    const tensor = text?.tensors.find((made) => made.name === name);
    return tensor && fill[tensor.role];
  });
}

export interface ImageMatchOptions {
  readonly batching: boolean;
  /** Of config.json; for an input that leaves them open. */
  readonly channels: number | undefined;
  readonly maxPixels: number;
}

/** How a picture becomes the model's pixel tensor. */
export function matchImage(
  image: HubImage,
  inputs: readonly TensorSpec[],
  options: ImageMatchOptions,
): Matched<ImageSpec> {
  if (image.problem !== undefined) return { problem: image.problem };
  const pixels = inputs.filter(({ datatype }) => datatype === 'FP32' || datatype === 'FP16' || datatype === 'UINT8');
  const shaped = (
    pixels.some(({ name }) => name === 'pixel_values') ? pixels.filter(({ name }) => name === 'pixel_values') : pixels
  )
    .map((input) => ({ input, form: formOf(input, image, options) }))
    .filter(({ form }) => form !== undefined);
  const [only] = shaped;
  if (only === undefined || shaped.length > 1) {
    return { problem: `${shaped.length === 0 ? 'no input has' : 'several inputs have'} the shape of a picture` };
  }
  const { input } = only;
  const { dims, layout, channels } = only.form!;
  checkSize(image, dims, layout, input.name);
  const { file, problem: _, mean, std, rescale, ...geometry } = image;
  const datatype = input.datatype as ImageSpec['datatype'];
  const spec = { ...geometry, tensor: input.name, datatype, dims, layout, channels, maxPixels: options.maxPixels };
  // Whole numbers up to 255 hold a picture as it is: such a model scales it itself.
  if (datatype === 'UINT8') return { spec: { ...spec, rescale: 1 } };
  return {
    spec: {
      ...spec,
      rescale,
      ...(mean && { mean: perChannel(mean, channels, image, 'image_mean') }),
      ...(std && { std: perChannel(std, channels, image, 'image_std') }),
    },
  };
}

type Form = Pick<ImageSpec, 'dims' | 'layout' | 'channels'>;

/** Undefined for an input that can't hold a picture. */
function formOf({ dims }: TensorSpec, image: HubImage, { batching, channels }: ImageMatchOptions): Form | undefined {
  const own = !batching && dims.length === 4 ? dims.slice(1) : dims;
  if (own.length === 1) return flatForm(own[0]!, image, channels);
  if (own.length !== 3) return undefined;
  const [first, , last] = own as [number, number, number];
  if (isChannels(first)) return { dims: own, layout: 'CHW', channels: first };
  if (isChannels(last)) return { dims: own, layout: 'HWC', channels: last };
  // Exports that leave everything open have the channels first.
  const open = channels ?? 3;
  return first === -1 && isChannels(open) ? { dims: own, layout: 'CHW', channels: open } : undefined;
}

/** All elements in one dimension: how many channels that are, the size says. */
function flatForm(elements: number, image: HubImage, channels: number | undefined): Form | undefined {
  const { width, height } = outputSize(image);
  if (width === undefined || height === undefined) return undefined;
  const found = elements === -1 ? (channels ?? 3) : elements / (width * height);
  return isChannels(found) ? { dims: [elements], layout: 'CHW', channels: found } : undefined;
}

function isChannels(dim: number): dim is 1 | 3 {
  return dim === 1 || dim === 3;
}

/** Of what comes out of scaling, cropping and padding, where it is known before. */
function outputSize({ resize, crop, pad }: HubImage): { width?: number; height?: number } {
  return pad ?? crop ?? (resize?.kind === 'exact' ? resize : {});
}

function checkSize(image: HubImage, dims: readonly number[], layout: 'CHW' | 'HWC', input: string): void {
  if (dims.length !== 3) return;
  const [height, width] = layout === 'CHW' ? dims.slice(1) : dims;
  const made = outputSize(image);
  const differs = (taken = -1, given = taken) => taken !== -1 && taken !== given;
  if (!differs(height, made.height) && !differs(width, made.width)) return;
  const field = image.pad ? 'pad_size' : image.crop ? 'crop_size' : 'size';
  throw image.file.wrong(
    image.file.has(field) ? field : 'size',
    `such that pictures get the ${height} x ${width} pixels (height x width) that input '${input}' takes, not ${made.height} x ${made.width}`,
  );
}

function perChannel(values: readonly number[], channels: number, image: HubImage, field: string): readonly number[] {
  if (values.length === channels) return values;
  if (values.length === 1) return new Array<number>(channels).fill(values[0]!);
  throw image.file.wrong(field, `1 number or ${channels}, as many as the model's input has channels`);
}
