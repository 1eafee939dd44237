/** preprocessor_config.json of real models, shortened to the fields that count. */
import { describe, expect, test } from 'vitest';
import { type HubImage, parseImage } from '../../src/engine/huggingface-image.js';
import { JsonFields } from '../../src/engine/huggingface-json.js';

const read = (value: object): Omit<HubImage, 'file'> | undefined => {
  const image = parseImage(
    new JsonFields("file 'preprocessor_config.json' of model 'm'", value as Record<string, unknown>),
  );
  if (image === undefined) return undefined;
  const { file: _, ...rest } = image;
  return rest;
};

const IMAGENET = { image_mean: [0.485, 0.456, 0.406], image_std: [0.229, 0.224, 0.225] };
const HALF = { image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] };
const VALUES = { do_normalize: true, do_rescale: true, rescale_factor: 0.00392156862745098 };
const square = (edge: number) => ({ width: edge, height: edge });
const plain = { channelOrder: 'RGB', resample: 'bilinear', rescale: 0.00392156862745098 };

describe('the way of a picture', () => {
  const table: [name: string, file: object, expected: object][] = [
    [
      'of ViT',
      {
        ...VALUES,
        ...HALF,
        do_resize: true,
        image_processor_type: 'ViTImageProcessor',
        resample: 2,
        size: { height: 224, width: 224 },
      },
      { ...plain, resize: { kind: 'exact', ...square(224) }, mean: HALF.image_mean, std: HALF.image_std },
    ],
    [
      'of an old ViT, whose one number is a square and which does not speak of rescaling',
      {
        ...HALF,
        do_normalize: true,
        do_resize: true,
        feature_extractor_type: 'ViTFeatureExtractor',
        resample: 2,
        size: 224,
      },
      {
        ...plain,
        rescale: 1 / 255,
        resize: { kind: 'exact', ...square(224) },
        mean: HALF.image_mean,
        std: HALF.image_std,
      },
    ],
    [
      'of CLIP',
      {
        ...VALUES,
        ...IMAGENET,
        crop_size: { height: 224, width: 224 },
        do_center_crop: true,
        do_convert_rgb: true,
        do_resize: true,
        image_processor_type: 'CLIPImageProcessor',
        resample: 3,
        size: { shortest_edge: 224 },
      },
      {
        ...plain,
        resample: 'bicubic',
        resize: { kind: 'shortest_edge', size: 224 },
        crop: square(224),
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of an old CLIP, whose one number is the shorter edge',
      {
        ...IMAGENET,
        crop_size: 224,
        do_center_crop: true,
        do_normalize: true,
        do_resize: true,
        feature_extractor_type: 'CLIPFeatureExtractor',
        resample: 3,
        size: 224,
      },
      {
        ...plain,
        resample: 'bicubic',
        rescale: 1 / 255,
        resize: { kind: 'shortest_edge', size: 224 },
        crop: square(224),
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of ConvNeXT, scaled so that the middle has the size',
      {
        ...VALUES,
        ...IMAGENET,
        crop_pct: 0.875,
        do_resize: true,
        image_processor_type: 'ConvNextImageProcessor',
        resample: 3,
        size: { shortest_edge: 224 },
      },
      {
        ...plain,
        resample: 'bicubic',
        resize: { kind: 'shortest_edge', size: 256 },
        crop: square(224),
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of a large ConvNeXT, which takes the whole picture',
      { ...VALUES, ...IMAGENET, do_resize: true, feature_extractor_type: 'ConvNextFeatureExtractor', size: 384 },
      { ...plain, resize: { kind: 'exact', ...square(384) }, mean: IMAGENET.image_mean, std: IMAGENET.image_std },
    ],
    [
      'of DETR',
      {
        ...VALUES,
        ...IMAGENET,
        do_pad: true,
        do_resize: true,
        feature_extractor_type: 'DetrFeatureExtractor',
        max_size: 1333,
        size: 800,
      },
      {
        ...plain,
        resize: { kind: 'shortest_edge', size: 800, longest: 1333 },
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of SAM',
      { ...VALUES, ...IMAGENET, do_pad: true, pad_size: { height: 1024, width: 1024 }, size: { longest_edge: 1024 } },
      {
        ...plain,
        resize: { kind: 'longest_edge', size: 1024 },
        pad: square(1024),
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of MobileViT, whose colours are the other way round and not normalized',
      {
        crop_size: { height: 256, width: 256 },
        do_center_crop: true,
        do_flip_channel_order: true,
        do_rescale: true,
        rescale_factor: 0.00392156862745098,
        do_resize: true,
        size: { shortest_edge: 288 },
        resample: 2,
      },
      { ...plain, channelOrder: 'BGR', resize: { kind: 'shortest_edge', size: 288 }, crop: square(256) },
    ],
    [
      'of EfficientNet with its offset',
      {
        ...VALUES,
        image_mean: [0.5],
        image_std: [0.25],
        rescale_offset: true,
        size: { height: 300, width: 400 },
        resample: 0,
      },
      { ...plain, resample: 'nearest', resize: { kind: 'exact', width: 400, height: 300 }, mean: [1.5], std: [0.25] },
    ],
    [
      "of EfficientNet's classifier, which divides twice",
      {
        ...VALUES,
        image_mean: [0.5],
        image_std: [0.5],
        image_processor_type: 'EfficientNetImageProcessor',
        include_top: true,
        rescale_offset: false,
        size: { height: 224, width: 224 },
      },
      { ...plain, resize: { kind: 'exact', ...square(224) }, mean: [0.5], std: [0.25] },
    ],
    [
      'of YOLOS, whose edges are whole patches',
      { ...VALUES, ...IMAGENET, feature_extractor_type: 'YolosFeatureExtractor', max_size: 1333, size: 512 },
      {
        ...plain,
        resize: { kind: 'shortest_edge', size: 512, longest: 1333, multiple: 16 },
        mean: IMAGENET.image_mean,
        std: IMAGENET.image_std,
      },
    ],
    [
      'of Depth Anything, which changes a picture as little as it may',
      {
        ...VALUES,
        ...HALF,
        image_processor_type: 'DPTImageProcessor',
        do_pad: false,
        ensure_multiple_of: 14,
        keep_aspect_ratio: true,
        resample: 3,
        size: { height: 518, width: 518 },
        size_divisor: null,
      },
      {
        ...plain,
        resample: 'bicubic',
        resize: { kind: 'least_change', ...square(518), multiple: 14 },
        mean: HALF.image_mean,
        std: HALF.image_std,
      },
    ],
    [
      'in whole patches whatever its proportions',
      { do_rescale: false, ensure_multiple_of: 32, size: { height: 100, width: 10 } },
      { channelOrder: 'RGB', resample: 'bilinear', rescale: 1, resize: { kind: 'exact', height: 96, width: 32 } },
    ],
    [
      'of digits: one channel, one number for mean and deviation',
      {
        do_resize: true,
        size: { height: 8, width: 8 },
        resample: 4,
        do_rescale: true,
        rescale_factor: 16 / 255,
        do_normalize: false,
        image_mean: 0.5,
        image_std: 0.5,
      },
      { channelOrder: 'RGB', resample: 'box', rescale: 16 / 255, resize: { kind: 'exact', ...square(8) } },
    ],
    [
      'within a height and a width',
      { do_rescale: false, size: { max_height: 10, max_width: 20 }, resample: 1 },
      { channelOrder: 'RGB', resample: 'lanczos', rescale: 1, resize: { kind: 'fit', width: 20, height: 10 } },
    ],
    [
      'as it is, but for the values',
      { do_resize: false, size: 224, do_center_crop: false, crop_size: 100, image_mean: 0, image_std: 1, resample: 5 },
      { channelOrder: 'RGB', resample: 'hamming', rescale: 1 / 255, mean: [0], std: [1] },
    ],
  ];
  test.each(table)('%s', (_, file, expected) => {
    expect(read(file)).toEqual(expected);
  });

  test.each<[string, object]>([
    ["'do_thumbnail'", { image_processor_type: 'DonutImageProcessor', do_thumbnail: true, size: [2560, 1920] }],
    ["'size_divisor'", { image_processor_type: 'ViltImageProcessor', size_divisor: 32, size: { shortest_edge: 384 } }],
    ["'size_divisibility'", { size_divisibility: 32, size: 800 }],
    ['the way of ImageGPTImageProcessor', { image_processor_type: 'ImageGPTImageProcessor', do_normalize: true }],
    ['the way of PerceiverFeatureExtractor', { feature_extractor_type: 'PerceiverFeatureExtractor', size: 224 }],
  ])('is not known where a file asks for %s, and tensors are served all the same', (what, file) => {
    expect(read(file)?.problem).toBe(
      `file 'preprocessor_config.json' of model 'm' asks for ${what}, which is not done here: send tensors`,
    );
  });

  test('is none for sound', () => {
    expect(read({ feature_size: 1, sampling_rate: 16000, do_normalize: true })).toBeUndefined();
    expect(read({ tokenizer_class: 'X' })).toBeUndefined();
  });
});

describe('a file that can not be meant is refused with field, expected and actual', () => {
  const S = "file 'preprocessor_config.json' of model 'm': ";
  test.each<[object, string]>([
    [{ size: '224' }, '\'size\' must be an object, got "224"'],
    [{ size: 0 }, "'size' must be a whole number >= 1, got 0"],
    [
      { size: { height: 224 } },
      "'size' must be a number or an object with 'height' and 'width', 'shortest_edge', 'longest_edge', or 'max_height' and 'max_width', got an object",
    ],
    [{ size: { height: 2.5, width: 2 } }, "'size.height' must be a whole number >= 1, got 2.5"],
    [{ size: 8, resample: 7 }, "'resample' must be a number of Pillow from 0 to 5, got 7"],
    [{ size: 8, do_resize: 'yes' }, '\'do_resize\' must be true or false, got "yes"'],
    [{ size: 8, do_normalize: true }, "'image_mean' must be numbers where 'do_normalize' is true, got nothing"],
    [
      { size: 8, image_mean: [0, 'x'], image_std: 1 },
      "'image_mean' must be a number or a list of numbers, got a list of 2",
    ],
    [
      { size: 8, image_mean: 0, image_std: [1, 0, 1] },
      "'image_std' must be numbers other than 0 where 'do_normalize' is true, got a list of 3",
    ],
    [
      { size: { longest_edge: 8 }, do_center_crop: true },
      "'crop_size' must be a number or an object with 'height' and 'width', got nothing",
    ],
    [{ size: 8, crop_pct: 2 }, "'crop_pct' must be a number above 0 and at most 1, got 2"],
  ])('%j', (file, message) => {
    expect(() => read(file)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message: S + message }));
  });
});
