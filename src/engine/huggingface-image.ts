/**
 * What preprocessor_config.json (or the `image_processor` of processor_config.json) says of a picture's way to a pixel tensor.
 *
 * Called by huggingface.ts. Pure. Owns what Hugging Face's classes mean by the same field; must not know the model's tensors
 * (huggingface-match.ts does). Everything that throws throws INVALID_ARGUMENT naming file and field.
 */
import { printable } from '../base/errors.js';
import type { ImageSpec, ResizeSpec } from '../runtime/preprocess-messages.js';
import type { JsonFields } from './huggingface-json.js';

export type HubImage = Pick<ImageSpec, 'channelOrder' | 'resize' | 'resample' | 'crop' | 'pad' | 'rescale'> & {
  /** One for all channels, or one each. */
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
  /** Why pictures can't be made into what the file means. */
  readonly problem?: string;
  /** For errors about what the model's input makes of it. */
  readonly file: JsonFields;
};

type Size = NonNullable<ImageSpec['crop']>;

/** By Pillow's numbers. */
const RESAMPLE = ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming'] as const;

/** Classes to whom a size of one number is the shorter edge; to all others it is a square. */
const SHORTEST_EDGE =
  /^(Bit|ChineseCLIP|CLIP|ConditionalDetr|ConvNext|DeformableDetr|Detr|Levit|MobileNetV|MobileViT|PoolFormer|VideoMAE|Yolos)/;

/** Part of the scaled picture that is kept, where the file does not say. */
const CROP_PART: readonly (readonly [name: RegExp, part: number])[] = [
  [/^ConvNext/, 224 / 256],
  [/^Levit/, 224 / 256],
];

/** Classes whose way to a tensor is another: patches, several tensors of one picture, a crop first, a frame in another colour. */
const OTHER_WAYS =
  /^(Aria|BridgeTower|Deepseek|Fuyu|Glm|Idefics|ImageGPT|Janus|Kosmos|Owlv2|Perceiver|Pix2Struct|Pixtral|Qwen|Siglip2|SmolVLM|Swin2SR|ZoeDepth)/;
/** What some classes do where the field is true. */
const OTHER_STEPS = ['do_thumbnail', 'do_align_long_axis', 'do_crop_margin', 'do_image_splitting', 'do_pan_and_scan'];

/** Yolos cuts its pictures down to whole patches. */
const YOLOS_PATCH = 16;

/** From this size on ConvNeXT takes the whole picture. */
const CONVNEXT_WHOLE_FROM = 384;

/** Undefined for a file that is about sound or the like. */
export function parseImage(file: JsonFields): HubImage | undefined {
  const about = ['image_processor_type', 'image_mean', 'do_resize', 'size', 'crop_size', 'do_rescale'];
  if (file.has('sampling_rate') || !about.some((field) => file.has(field))) return undefined;
  const kind = file.string('image_processor_type') ?? file.string('feature_extractor_type') ?? '';
  const unknown = unknownStep(file, kind);
  if (unknown !== undefined) {
    const problem = `${file.subject} asks for ${unknown}, which is not done here: send tensors`;
    return { channelOrder: 'RGB', resample: 'bilinear', rescale: 1, problem, file };
  }
  const pad = file.boolean('do_pad') ? rectangle(file, 'pad_size') : undefined;
  return {
    channelOrder: file.boolean('do_flip_channel_order') ? 'BGR' : 'RGB',
    ...geometry(file, kind),
    ...(pad && { pad }),
    resample: resample(file),
    ...values(file, kind),
    file,
  };
}

/** The first thing in the file that would change a picture and is not known here; undefined where all is. */
function unknownStep(file: JsonFields, kind: string): string | undefined {
  if (OTHER_WAYS.test(kind)) return `the way of ${printable(kind, 64)}`;
  const step = OTHER_STEPS.find((field) => file.boolean(field));
  if (step !== undefined) return `'${step}'`;
  const divisor = ['size_divisor', 'size_divisibility'].find((field) => (file.number(field) ?? 1) > 1);
  return divisor !== undefined && (file.boolean('do_pad') ?? true) ? `'${divisor}'` : undefined;
}

/** How it is scaled, and which part of it is taken. */
function geometry(file: JsonFields, kind: string): Pick<HubImage, 'resize' | 'crop'> {
  const size = (file.boolean('do_resize') ?? true) ? inMultiples(file, kind, parseSize(file, kind)) : undefined;
  const crop = file.boolean('do_center_crop') ? cropSize(file, size) : undefined;
  const part = cropPart(file, kind);
  if (size === undefined || part === undefined) return { ...(size && { resize: size }), ...(crop && { crop }) };
  // Scaled so that the part that is cut out has the size.
  const whole = target(size);
  if (whole === undefined) throw file.wrong('size', "a shortest edge or a height and a width beside 'crop_pct'");
  if (/^ConvNext/.test(kind) && whole.width >= CONVNEXT_WHOLE_FROM) return { resize: { kind: 'exact', ...whole } };
  const square = whole.width === whole.height;
  const resize: ResizeSpec = square
    ? { kind: 'shortest_edge', size: Math.floor(whole.height / part) }
    : { kind: 'exact', width: Math.floor(whole.width / part), height: Math.floor(whole.height / part) };
  return { resize, crop: crop ?? whole };
}

/** DPT's fields for whole patches, and what Yolos does without one. */
function inMultiples(file: JsonFields, kind: string, size: ResizeSpec | undefined): ResizeSpec | undefined {
  if (/^Yolos/.test(kind) && size?.kind === 'shortest_edge') return { ...size, multiple: YOLOS_PATCH };
  const multiple = file.integer('ensure_multiple_of', 1) ?? 1;
  if (size?.kind !== 'exact') return size;
  if (file.boolean('keep_aspect_ratio')) return { ...size, kind: 'least_change', multiple };
  const rounded = (edge: number): number => Math.max(1, Math.round(edge / multiple)) * multiple;
  return { kind: 'exact', width: rounded(size.width), height: rounded(size.height) };
}

function cropPart(file: JsonFields, kind: string): number | undefined {
  const written = file.number('crop_pct');
  if (written === undefined) return CROP_PART.find(([name]) => name.test(kind))?.[1];
  if (written > 0 && written <= 1) return written;
  throw file.wrong('crop_pct', 'a number above 0 and at most 1');
}

/** The size that one edge of each kind makes of a square picture. */
function target(size: ResizeSpec): Size | undefined {
  if (size.kind === 'exact') return { width: size.width, height: size.height };
  return size.kind === 'shortest_edge' ? { width: size.size, height: size.size } : undefined;
}

/** Undefined where the file has no size at all, or one that only says how many pixels there may be. */
function parseSize(file: JsonFields, kind: string): ResizeSpec | undefined {
  if (!file.has('size')) return undefined;
  if (file.isNumber('size')) {
    const size = file.integer('size', 1)!;
    if (!SHORTEST_EDGE.test(kind)) return { kind: 'exact', width: size, height: size };
    const longest = file.integer('max_size', 1);
    return { kind: 'shortest_edge', size, ...(longest !== undefined && { longest }) };
  }
  const edges = sizeFields(file, 'size');
  const get = (field: string): number | undefined => edges.integer(field, 1);
  const [height, width, shortest, longest] = [get('height'), get('width'), get('shortest_edge'), get('longest_edge')];
  if (height !== undefined && width !== undefined) return { kind: 'exact', width, height };
  if (shortest !== undefined)
    return { kind: 'shortest_edge', size: shortest, ...(longest !== undefined && { longest }) };
  if (longest !== undefined) return { kind: 'longest_edge', size: longest };
  const [maxHeight, maxWidth] = [get('max_height'), get('max_width')];
  if (maxHeight !== undefined && maxWidth !== undefined) return { kind: 'fit', width: maxWidth, height: maxHeight };
  throw file.wrong(
    'size',
    "a number or an object with 'height' and 'width', 'shortest_edge', 'longest_edge', or 'max_height' and 'max_width'",
  );
}

function cropSize(file: JsonFields, size: ResizeSpec | undefined): Size {
  const crop = rectangle(file, 'crop_size') ?? (size && target(size));
  if (crop === undefined) throw file.wrong('crop_size', "a number or an object with 'height' and 'width'");
  return crop;
}

function rectangle(file: JsonFields, field: string): Size | undefined {
  if (!file.has(field)) return undefined;
  if (file.isNumber(field)) {
    const edge = file.integer(field, 1)!;
    return { width: edge, height: edge };
  }
  const edges = sizeFields(file, field);
  const [height, width] = [edges.integer('height', 1), edges.integer('width', 1)];
  if (height !== undefined && width !== undefined) return { width, height };
  const edge = edges.integer('shortest_edge', 1);
  if (edge !== undefined) return { width: edge, height: edge };
  throw file.wrong(field, "a number or an object with 'height' and 'width'");
}

/** A pair [height, width] is what some old files have. */
function sizeFields(file: JsonFields, field: string): Pick<JsonFields, 'integer'> {
  if (!file.isList(field)) return file.object(field)!;
  const pair = file.numbers(field)!;
  if (pair.length !== 2 || !pair.every((edge) => Number.isSafeInteger(edge) && edge > 0)) {
    throw file.wrong(field, 'two whole numbers, height and width');
  }
  return { integer: (edge) => ({ height: pair[0], width: pair[1] })[edge] };
}

function resample(file: JsonFields): HubImage['resample'] {
  const number = file.integer('resample', 0) ?? 2;
  const name = RESAMPLE[number];
  if (name === undefined) throw file.wrong('resample', 'a number of Pillow from 0 to 5');
  return name;
}

function values(file: JsonFields, kind: string): Pick<HubImage, 'rescale' | 'mean' | 'std'> {
  const rescale = (file.boolean('do_rescale') ?? true) ? (file.number('rescale_factor') ?? 1 / 255) : 1;
  // EfficientNet's way to -1..1: it takes 1 off what it has scaled, which is a mean of 1.
  const offset = rescale !== 1 && (file.boolean('rescale_offset') ?? false) ? 1 : 0;
  const mean = file.numbers('image_mean');
  const std = file.numbers('image_std');
  const normalize = file.boolean('do_normalize') ?? (mean !== undefined && std !== undefined);
  if (!normalize) return offset === 0 ? { rescale } : { rescale, mean: [offset], std: [1] };
  if (mean === undefined || mean.length === 0) throw file.wrong('image_mean', "numbers where 'do_normalize' is true");
  if (std === undefined || std.length === 0 || std.includes(0)) {
    throw file.wrong('image_std', "numbers other than 0 where 'do_normalize' is true");
  }
  // EfficientNet divides by the deviation once more for its classifier: the file holds the square roots of what was trained with.
  const again = /^EfficientNet/.test(kind) && (file.boolean('include_top') ?? true);
  return { rescale, mean: mean.map((value) => value + offset), std: again ? std.map((value) => value * value) : std };
}
