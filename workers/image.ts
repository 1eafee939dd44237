/**
 * Pictures to the pixel tensor of a model, as transformers makes it with Pillow: sharp decodes, and scales large pictures down while it
 * does so; small ones, and whatever it scales otherwise than Pillow, are scaled by image-resample.ts to Pillow's last bit.
 *
 * Called by workers/preprocess-worker.ts. Loads sharp when the first processor is made, so that servers without such models have none of it.
 * One picture at a time. Refuses with ServeError what is no picture or claims to be too large, before a decoder sees it.
 */
import type { Metadata, SharpOptions } from 'sharp';
import { invalid, printable, ServeError, withoutPaths } from '#src/base/errors';
import type { ContentElements, ImageSpec, PreparedTensor } from '#src/runtime/preprocess-messages';
import { elementsOf } from './content-elements.js';
import { withChannels } from './image-channels.js';
import { type ImageHeader, readImageHeader } from './image-header.js';
import { type Pixels, resample } from './image-resample.js';
import { type Size, sizeAfter } from './image-size.js';
import {
  dimsOf,
  type PixelArray,
  type PixelTable,
  pixelArray,
  pixelTable,
  sizeOfTensor,
  writePixels,
} from './image-tensor.js';

type Sharp = typeof import('sharp')['default'];

/** The tensor of one request may take so much. */
const MAX_TENSOR_BYTES = 256 * 1024 * 1024;
/** A picture that is scaled along its rows only may have so many times the pixels that one may come with. */
const MAX_GROWTH = 4;

/**
 * Pictures of more pixels are scaled by libvips, where they shrink to half or less: 14 ms of CPU in place of 107 for 4 megapixels to
 * 256 pixels high, and from Pillow's result 0.2 to 1.6 of 255 away on average on a photograph, 20 at most; on noise
 * up to 4 on average.
 */
const EXACT_PIXELS = 512 * 1024;
/** libvips's names of the filters that both have. */
const KERNELS: Partial<Record<ImageSpec['resample'], 'linear' | 'cubic' | 'lanczos3'>> = {
  bilinear: 'linear',
  bicubic: 'cubic',
  lanczos: 'lanczos3',
};

export interface ImageProcessor {
  /** The tensor of all pictures, its dims with their number in front. */
  prepare(images: ContentElements<Uint8Array<ArrayBuffer>>): Promise<PreparedTensor>;
}

export async function createImageProcessor(spec: ImageSpec): Promise<ImageProcessor> {
  const sharp = await loadSharp();
  const table = pixelTable(spec);
  return { prepare: (images) => prepare(images, { sharp, spec, table }) };
}

async function loadSharp(): Promise<Sharp> {
  let sharp: Sharp;
  try {
    sharp = (await import('sharp')).default;
  } catch (error) {
    const detail = error instanceof Error ? printable(withoutPaths(error.message.split('\n')[0]!), 100) : '';
    throw new ServeError('UNAVAILABLE', `pictures can't be decoded on this machine: sharp does not load (${detail})`);
  }
  // Every picture is another one; and workers are as many as there are to be.
  sharp.cache(false);
  sharp.concurrency(1);
  return sharp;
}

interface Means {
  readonly sharp: Sharp;
  readonly spec: ImageSpec;
  readonly table: PixelTable;
}

async function prepare(images: ContentElements<Uint8Array<ArrayBuffer>>, means: Means): Promise<PreparedTensor> {
  const { spec } = means;
  const pictures = elementsOf(images);
  let tensor: PixelArray | undefined;
  let dims: number[] = [];
  for (const [index, bytes] of pictures.entries()) {
    const which = `image ${index}`;
    const header = readImageHeader(bytes, which);
    checkPixels(header, spec.maxPixels, which);
    const pixels = await decode(bytes, { ...means, which, header });
    const size = sizeOfTensor(spec, pixels);
    const ownDims = dimsOf(spec, size);
    if (!tensor) {
      checkDims(ownDims, spec, which);
      dims = ownDims;
      tensor = pixelArray(spec.datatype, roomFor(pictures.length, dims, spec));
    } else if (ownDims.join() !== dims.join()) {
      throw invalid(
        `${which} becomes [${ownDims.join()}] and image 0 [${dims.join()}]: pictures of one request must come out alike`,
      );
    }
    const count = tensor.length / pictures.length;
    writePixels(tensor.subarray(index * count, (index + 1) * count), pixels, spec, means.table);
  }
  const { buffer, byteOffset, byteLength } = tensor!;
  return {
    name: spec.tensor,
    datatype: spec.datatype,
    dims: [pictures.length, ...dims],
    data: new Uint8Array(buffer, byteOffset, byteLength),
  };
}

function checkPixels({ format, width, height }: ImageHeader, maxPixels: number, which: string): void {
  if (width * height <= maxPixels) return;
  throw invalid(
    `${which} is a ${format} of ${width}x${height} = ${width * height} pixels, more than the ${maxPixels} that are decoded`,
  );
}

async function decode(
  bytes: Uint8Array<ArrayBuffer>,
  { sharp, spec, which, header }: Means & { which: string; header: ImageHeader },
): Promise<Pixels> {
  const options: SharpOptions = {
    // Broken or missing data is an error, what a decoder merely wonders about is none.
    failOn: 'error',
    limitInputPixels: spec.maxPixels,
    sequentialRead: true,
    // Neither Pillow nor transformers apply a colour profile; both turn a picture as its EXIF data says.
    ignoreIcc: true,
    autoOrient: true,
  };
  let pixels: Pixels;
  let isScaled = false;
  try {
    const reader = sharp(bytes, options).removeAlpha();
    const target = mayShrink(header, spec) ? shrunk(await reader.metadata(), spec) : undefined;
    if (target) {
      isScaled = true;
      const kernel = KERNELS[spec.resample]!;
      reader.resize(target.width, target.height, { kernel, fit: 'fill', fastShrinkOnLoad: false });
    }
    // libvips would turn inks into colours by a profile.
    const colours = header.isInk
      ? reader.pipelineColourspace('cmyk').toColourspace('cmyk')
      : reader.toColourspace('srgb');
    const { data, info } = await colours.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    pixels = withChannels({ width: info.width, height: info.height, channels: info.channels, data }, spec.channels);
  } catch (error) {
    const reason = error instanceof Error ? printable(error.message.replaceAll(/\s+/g, ' ').trim(), 120) : 'unknown';
    throw invalid(`${which} is a ${header.format} that can't be decoded, it is cut short or broken: ${reason}`);
  }
  return isScaled ? pixels : scale(pixels, spec, which);
}

/** Whether it may be worth to scale while decoding: for a small picture exactness costs little. */
function mayShrink({ width, height, isInk }: ImageHeader, { resize, resample }: ImageSpec): boolean {
  return resize !== undefined && !isInk && KERNELS[resample] !== undefined && width * height > EXACT_PIXELS;
}

/**
 * The size after scaling, where both edges become half as long or less. Undefined also for a picture with transparency: sharp weighs
 * colours by it while it scales, so that they go where all is transparent, and Pillow knows nothing of it.
 */
function shrunk({ autoOrient: own, hasAlpha }: Metadata, { resize }: ImageSpec): Size | undefined {
  if (hasAlpha) return undefined;
  const target = sizeAfter(resize!, own);
  return 2 * target.width <= own.width && 2 * target.height <= own.height ? target : undefined;
}

function scale(pixels: Pixels, spec: ImageSpec, which: string): Pixels {
  if (!spec.resize) return pixels;
  const { width, height } = sizeAfter(spec.resize, pixels);
  const most = spec.maxPixels * MAX_GROWTH;
  if (width * Math.max(height, pixels.height) > most)
    throw invalid(
      `${which} of ${pixels.width}x${pixels.height} pixels would be scaled to ${width}x${height}: it is too long for its width`,
    );
  return resample(pixels, { width, height, method: spec.resample });
}

function checkDims(dims: readonly number[], spec: ImageSpec, which: string): void {
  const fits = dims.length === spec.dims.length && dims.every((dim, i) => spec.dims[i] === -1 || spec.dims[i] === dim);
  if (!fits) throw invalid(`${which} becomes [${dims.join()}], and the model takes [${spec.dims.join()}]`);
}

/** Elements of `pictures` pictures. */
function roomFor(pictures: number, dims: readonly number[], { datatype }: ImageSpec): number {
  const count = dims.reduce((product, dim) => product * dim, pictures);
  const bytes = count * pixelArray(datatype, 0).BYTES_PER_ELEMENT;
  if (bytes <= MAX_TENSOR_BYTES) return count;
  const of = `of [${dims.join()}]`;
  const sizes = `${bytes} bytes of ${MAX_TENSOR_BYTES}`;
  const message =
    pictures === 1
      ? `a picture ${of} takes ${sizes}: send a smaller one`
      : `${pictures} pictures ${of} take ${sizes}: send fewer in one request`;
  throw new ServeError('RESOURCE_EXHAUSTED', message);
}
