/** Pixels and masks, row by row from the upper left corner. */

/** Pixels of 8 bits; a fourth channel is opaque and never read. */
export interface Raster {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array;
}

/** Where a lesion is: 1 for lesion, 0 for skin. */
export interface Mask {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** A map of floating-point numbers. */
export interface FloatMap {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
}

/** A part of a frame; `right` and `bottom` lie outside of it. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Returns how many pixels of a mask are lesion. */
export function area(mask: Mask): number {
  const { data } = mask;
  let count = 0;
  for (let i = 0; i < data.length; i++) count += data[i];
  return count;
}

/** Returns luminance as Pillow computes it (ITU-R 601 in integers). */
export function toGrey(image: Raster): Raster {
  const { width, height, channels, data } = image;
  const grey = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < grey.length; i++, at += channels) {
    grey[i] = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
  }
  return { width, height, channels: 1, data: grey };
}

/** Returns a copy of a part of an image; of RGBA the colours alone. */
export function crop(image: Raster, box: Box): Raster {
  const width = box.right - box.left;
  const height = box.bottom - box.top;
  const channels = Math.min(image.channels, 3);
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const from = ((box.top + y) * image.width + box.left) * image.channels;
    const row = image.data.subarray(from, from + width * image.channels);
    if (image.channels === channels) data.set(row, y * row.length);
    else dropAlpha(row, data.subarray(y * width * 3, (y + 1) * width * 3));
  }
  return { width, height, channels, data };
}

function dropAlpha(from: Uint8Array, to: Uint8Array): void {
  for (let i = 0, at = 0; i < to.length; i += 3, at += 4) {
    to[i] = from[at];
    to[i + 1] = from[at + 1];
    to[i + 2] = from[at + 2];
  }
}

/** Returns a copy of a part of a mask. */
export function cropMask(mask: Mask, box: Box): Mask {
  const part = crop({ ...mask, channels: 1 }, box);
  return { width: part.width, height: part.height, data: part.data };
}
