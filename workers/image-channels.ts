/**
 * Decoded pixels as a model takes them, grey or in colours, by Pillow's arithmetic.
 *
 * Called by workers/image.ts.
 */
import type { Pixels } from './image-resample.js';

/** What a decoder gave: interleaved bytes, of grey (1), colours (3) or inks (4). */
export interface Decoded {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array;
}

/** As Pillow's `convert('RGB')` and `convert('L')`. */
export function withChannels(image: Decoded, to: 1 | 3): Pixels {
  const { width, height } = image;
  const { data, channels } = image.channels === 4 ? coloursOfInks(image) : image;
  if (channels === to) return { width, height, channels: to, data };
  return { width, height, channels: to, data: to === 3 ? coloursOfGrey(data) : greyOfColours(data) };
}

function coloursOfGrey(grey: Uint8Array): Uint8Array {
  const out = new Uint8Array(grey.length * 3);
  for (let i = 0; i < grey.length; i++) out.fill(grey[i]!, 3 * i, 3 * i + 3);
  return out;
}

/** Luminance of ITU-R 601-2, in 16 fractional bits. */
function greyOfColours(colours: Uint8Array): Uint8Array {
  const out = new Uint8Array(colours.length / 3);
  for (let i = 0, at = 0; i < out.length; i++, at += 3)
    out[i] = (colours[at]! * 19595 + colours[at + 1]! * 38470 + colours[at + 2]! * 7471 + 0x8000) >> 16;
  return out;
}

/** Each ink takes its share of the light that black leaves. */
function coloursOfInks({ width, height, data }: Decoded): Decoded {
  const out = new Uint8Array(width * height * 3);
  for (let from = 0, at = 0; at < out.length; from += 4, at += 3) {
    const light = 255 - data[from + 3]!;
    for (let ink = 0; ink < 3; ink++) {
      const product = data[from + ink]! * light + 128;
      out[at + ink] = light - (((product >> 8) + product) >> 8);
    }
  }
  return { width, height, channels: 3, data: out };
}
