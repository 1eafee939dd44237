/**
 * Scaled pictures written out as a model's pixel tensor: cropped, rescaled, normalized, padded, in the layout that it takes.
 *
 * Called by workers/image.ts. A pixel is a byte, so what becomes of it is looked up: 256 values for each channel, computed as
 * transformers' image processors compute them in 32-bit floats, step by step.
 */
import type { ImageSpec } from '#src/runtime/preprocess-messages';
import type { Pixels } from './image-resample.js';
import type { Size } from './image-size.js';

export type PixelArray = Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

/** What each byte of each channel (in RGB order) becomes. */
export type PixelTable = readonly PixelArray[];

/** Elements of `count` values as the model's datatype holds them; FP16 as its bits. */
export function pixelArray(datatype: ImageSpec['datatype'], count: number): PixelArray {
  if (datatype === 'UINT8') return new Uint8Array(count);
  return datatype === 'FP16' ? new Uint16Array(count) : new Float32Array(count);
}

export function pixelTable({ datatype, channels, rescale, mean, std }: ImageSpec): PixelTable {
  return Array.from({ length: channels }, (_, channel) => {
    const values = pixelArray(datatype, 256);
    for (let byte = 0; byte < 256; byte++) {
      let value = Math.fround(byte * rescale);
      if (mean) value = Math.fround(value - Math.fround(mean[channel] ?? mean[0] ?? 0));
      if (std) value = Math.fround(value / Math.fround(std[channel] ?? std[0] ?? 1));
      if (datatype === 'UINT8') values[byte] = Math.min(255, Math.max(0, Math.round(value)));
      else values[byte] = datatype === 'FP16' ? halfBits(value) : value;
    }
    return values;
  });
}

/** Bits of the half-precision float nearest to `value`, ties to even. */
export function halfBits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  // Below 2^-14 steps stay 2^-24: that is a half's subnormal.
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude)));
  let steps = magnitude / 2 ** (exponent - 10);
  const floor = Math.floor(steps);
  const rest = steps - floor;
  steps = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  // A carry out of the fraction goes into the exponent by itself; a subnormal has no leading one to leave out.
  return sign | (magnitude < 2 ** -14 ? steps : ((exponent + 15) << 10) + (steps - 1024));
}

/** Size after the crop and the padding. */
export function sizeOfTensor({ crop, pad }: Pick<ImageSpec, 'crop' | 'pad'>, size: Size): Size {
  const cropped = crop ?? size;
  return { width: Math.max(cropped.width, pad?.width ?? 0), height: Math.max(cropped.height, pad?.height ?? 0) };
}

/** The dims of one picture of `size`, as `spec.dims` counts them. */
export function dimsOf({ channels, layout, dims }: ImageSpec, { width, height }: Size): number[] {
  const plane = [height, width];
  if (dims.length === 1) return [channels * height * width];
  // A model of single-channel pictures may have no axis for it.
  if (dims.length === 2 && channels === 1) return plane;
  return layout === 'CHW' ? [channels, ...plane] : [...plane, channels];
}

/** Writes one picture into `target`, which holds exactly what it becomes. */
export function writePixels(target: PixelArray, pixels: Pixels, spec: ImageSpec, table: PixelTable): void {
  const { crop, layout, channels, channelOrder } = spec;
  const { width, height } = sizeOfTensor(spec, pixels);
  // The middle: half a pixel too much goes to the left and above, also where the picture is the smaller one.
  const left = crop ? Math.floor((pixels.width - crop.width) / 2) : 0;
  const top = crop ? Math.floor((pixels.height - crop.height) / 2) : 0;
  const shown = { width: crop?.width ?? pixels.width, height: crop?.height ?? pixels.height };
  const [pixelStep, planeStep] = layout === 'CHW' ? [1, width * height] : [channels, 1];
  for (let channel = 0; channel < channels; channel++) {
    const values = table[channel]!;
    const black = values[0]!;
    const plane = channelOrder === 'BGR' ? channels - 1 - channel : channel;
    for (let y = 0; y < height; y++) {
      let at = plane * planeStep + y * width * pixelStep;
      const row = y + top;
      const isInside = row >= 0 && row < pixels.height;
      for (let x = 0; x < width; x++, at += pixelStep) {
        const column = x + left;
        const isPixel = isInside && column >= 0 && column < pixels.width;
        if (y >= shown.height || x >= shown.width) target[at] = 0;
        else target[at] = isPixel ? values[pixels.data[(row * pixels.width + column) * channels + channel]!]! : black;
      }
    }
  }
}
