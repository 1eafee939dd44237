import { ServeError } from '#src/base/errors';
import type { ContentElements, ImageSpec, PreparedTensor } from '#src/runtime/preprocess-messages';

export interface ImageProcessor {
  prepare(images: ContentElements<Uint8Array<ArrayBuffer>>): Promise<PreparedTensor>;
}

export function createImageProcessor(_spec: ImageSpec): Promise<ImageProcessor> {
  return Promise.reject(new ServeError('UNIMPLEMENTED', 'pictures are not prepared yet'));
}
