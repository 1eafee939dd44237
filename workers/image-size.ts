/**
 * The size that a picture is scaled to, by the rounding of transformers' image processors.
 *
 * Called by workers/image.ts.
 */
import type { ResizeSpec } from '#src/runtime/preprocess-messages';

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** At least one pixel each way. */
export function sizeAfter(resize: ResizeSpec, size: Size): Size {
  const { width, height } = targetOf(resize, size);
  return { width: Math.max(1, width), height: Math.max(1, height) };
}

function targetOf(resize: ResizeSpec, { width, height }: Size): Size {
  switch (resize.kind) {
    case 'exact':
      return { width: resize.width, height: resize.height };
    case 'shortest_edge':
      return shortestEdge(resize, { width, height });
    case 'least_change':
      return leastChange(resize, { width, height });
    case 'longest_edge': {
      const scale = resize.size / Math.max(width, height);
      return { width: Math.trunc(width * scale + 0.5), height: Math.trunc(height * scale + 0.5) };
    }
    case 'fit': {
      const scale = Math.min(resize.height / height, resize.width / width);
      return { width: Math.trunc(width * scale), height: Math.trunc(height * scale) };
    }
    default:
      return resize satisfies never;
  }
}

function shortestEdge(resize: Extract<ResizeSpec, { kind: 'shortest_edge' }>, own: Size): Size {
  const { width, height } = uncutShortestEdge(resize, own);
  const { multiple = 1 } = resize;
  return { width: width - (width % multiple), height: height - (height % multiple) };
}

/** Where the longest edge is limited, the shorter one follows from it before it is rounded, as for DETR. */
function uncutShortestEdge({ size, longest }: { size: number; longest?: number }, { width, height }: Size): Size {
  const short = Math.min(width, height);
  const long = Math.max(width, height);
  let raw = size;
  if (longest !== undefined && (long / short) * size > longest) raw = (longest * short) / long;
  const newShort = raw === size ? size : roundHalfEven(raw);
  if (short === newShort) return { width, height };
  const newLong = Math.trunc((raw * long) / short);
  return width <= height ? { width: newShort, height: newLong } : { width: newLong, height: newShort };
}

/** As DPT's: each edge is scaled before it is rounded. */
function leastChange(resize: Extract<ResizeSpec, { kind: 'least_change' }>, { width, height }: Size): Size {
  const across = resize.width / width;
  const down = resize.height / height;
  const scale = Math.abs(1 - across) < Math.abs(1 - down) ? across : down;
  const rounded = (edge: number): number => roundHalfEven((scale * edge) / resize.multiple) * resize.multiple;
  return { width: rounded(width), height: rounded(height) };
}

/** Python's `round`. */
function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
