/**
 * Pictures scaled as Pillow scales them, to the last bit: what models were trained on.
 *
 * Called by workers/image.ts for all but large pictures that shrink. libvips, which decodes, scales otherwise: it has no box and no Hamming,
 * shrinks in two steps, and enlarges with its pixels' corners at other places (up to 100 of 255 away from Pillow on photographs).
 *
 * Pillow's way: each output pixel is a weighted mean of the input pixels around its centre, the filter being stretched where the picture
 * shrinks; first along rows, then along columns, rounded to bytes in between; weights are integers of 22 fractional bits. (Pillow 13
 * takes the columns of tall pictures first. That gives neighbouring bytes; models were trained with what came before.)
 */
import type { ImageSpec } from '#src/runtime/preprocess-messages';

/** Interleaved bytes, row by row. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

interface Filter {
  /** Half its width, in output pixels. */
  readonly support: number;
  weight(x: number): number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const FILTERS: Readonly<Record<Exclude<ImageSpec['resample'], 'nearest'>, Filter>> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    support: 1,
    weight: (x) => {
      const distance = Math.abs(x);
      // Pillow's constants are floats.
      return distance >= 1
        ? 0
        : sinc(distance) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(distance * Math.PI));
    },
  },
  bicubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** `pixels` at another size; itself where it has that size. */
export function resample(
  pixels: Pixels,
  { width, height, method }: { width: number; height: number; method: ImageSpec['resample'] },
): Pixels {
  if (pixels.width === width && pixels.height === height) return pixels;
  if (method === 'nearest') return nearest(pixels, width, height);
  const filter = FILTERS[method];
  const vertical = pixels.height === height ? undefined : weightsOf(pixels.height, height, filter);
  let out = pixels;
  if (pixels.width !== width) out = alongRows(out, weightsOf(pixels.width, width, filter), width);
  if (vertical) out = alongColumns(out, vertical, height);
  return out;
}

/** Which input pixels make each output pixel, and by how much. */
interface Weights {
  /** First input pixel of each output pixel. */
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `stride` for each output pixel. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Fractional bits of a weight: eight of the 32 are the pixel's, two are for sums that overshoot. */
const BITS = 22;
const HALF = 1 << (BITS - 1);

function weightsOf(from: number, to: number, filter: Filter): Weights {
  const scale = from / to;
  const stretch = Math.max(1, scale);
  const support = filter.support * stretch;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  const exact = new Float64Array(stride);
  const perPixel = 1 / stretch;
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const length = Math.min(from, Math.trunc(center + support + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < length; k++) {
      exact[k] = filter.weight((k + start - center + 0.5) * perPixel);
      sum += exact[k]!;
    }
    for (let k = 0; k < length; k++) {
      const weight = sum === 0 ? exact[k]! : exact[k]! / sum;
      weights[i * stride + k] = Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * (1 << BITS));
    }
    first[i] = start;
    count[i] = length;
  }
  return { first, count, weights, stride };
}

const clip = (sum: number): number => {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
};

function alongRows(pixels: Pixels, { first, count, weights, stride }: Weights, width: number): Pixels {
  const { height, channels, data } = pixels;
  const out = new Uint8Array(width * height * channels);
  let at = 0;
  for (let y = 0; y < height; y++) {
    const row = y * pixels.width * channels;
    for (let x = 0; x < width; x++) {
      let from = row + first[x]! * channels;
      const end = x * stride + count[x]!;
      let red = HALF;
      if (channels === 1) {
        for (let k = x * stride; k < end; k++) red = (red + Math.imul(data[from++]!, weights[k]!)) | 0;
        out[at++] = clip(red);
        continue;
      }
      let green = HALF;
      let blue = HALF;
      for (let k = x * stride; k < end; k++, from += 3) {
        const weight = weights[k]!;
        red = (red + Math.imul(data[from]!, weight)) | 0;
        green = (green + Math.imul(data[from + 1]!, weight)) | 0;
        blue = (blue + Math.imul(data[from + 2]!, weight)) | 0;
      }
      out[at] = clip(red);
      out[at + 1] = clip(green);
      out[at + 2] = clip(blue);
      at += 3;
    }
  }
  return { width, height, channels, data: out };
}

function alongColumns(pixels: Pixels, { first, count, weights, stride }: Weights, height: number): Pixels {
  const { width, channels, data } = pixels;
  const rowBytes = width * channels;
  const out = new Uint8Array(rowBytes * height);
  // A row of sums: rows are read and written in the order in which they lie in memory.
  const sums = new Int32Array(rowBytes);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]!; k++) {
      const weight = weights[y * stride + k]!;
      const row = (first[y]! + k) * rowBytes;
      for (let x = 0; x < rowBytes; x++) sums[x] = sums[x]! + Math.imul(data[row + x]!, weight);
    }
    for (let x = 0; x < rowBytes; x++) out[y * rowBytes + x] = clip(sums[x]!);
  }
  return { width, height, channels, data: out };
}

/** The input pixel under the middle of each output pixel. */
function nearest(pixels: Pixels, width: number, height: number): Pixels {
  const { channels, data } = pixels;
  const columns = positions(pixels.width, width);
  const rows = positions(pixels.height, height);
  const out = new Uint8Array(width * height * channels);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (rows[y]! * pixels.width + columns[x]!) * channels;
      for (let channel = 0; channel < channels; channel++) out[at++] = data[from + channel]!;
    }
  }
  return { width, height, channels, data: out };
}

/** Steps are added up, as Pillow does: multiplying would round otherwise. */
function positions(from: number, to: number): Int32Array {
  const step = from / to;
  const found = new Int32Array(to);
  let position = step * 0.5;
  for (let i = 0; i < to; i++, position += step) found[i] = Math.min(from - 1, Math.trunc(position));
  return found;
}
