/** Small working copies of images and masks, made as Pillow makes them. */
import type { Mask, Raster } from "./raster";
import { type Filter, resize } from "./resample";
import { roundHalfEven } from "./statistics";

/** The longer side of a working copy in pixels; smaller images keep their size. */
export const LONG_SIDE_PX = 256;

/** Returns `[width, height]` of a copy whose longer side has so many pixels at most. */
export function smallSize(height: number, width: number, longSidePx: number): [number, number] {
  const factor = Math.min(1, longSidePx / Math.max(height, width));
  return [
    Math.max(1, roundHalfEven(width * factor)),
    Math.max(1, roundHalfEven(height * factor)),
  ];
}

/** Returns an image at most so long: means over whole pixels first, bilinear after. */
export function reduceImage(image: Raster, longSidePx = LONG_SIDE_PX): Raster {
  const [width, height] = smallSize(image.height, image.width, longSidePx);
  return resizeInSteps(image, width, height, "bilinear", 1);
}

/** Returns a mask at most so long: lesion where half of a cell or more is. */
export function reduceMask(mask: Mask, longSidePx = LONG_SIDE_PX): Mask {
  const [width, height] = smallSize(mask.height, mask.width, longSidePx);
  if (width === mask.width && height === mask.height) return mask;
  const shares = new Uint8Array(mask.data.length);
  for (let i = 0; i < shares.length; i++) shares[i] = mask.data[i] * 255;
  const small = resizeInSteps({ ...mask, channels: 1, data: shares }, width, height, "box", 1);
  return { width, height, data: small.data.map((value) => Number(value >= 128)) };
}

/** Returns an image that fits a square, its aspect kept as Pillow's `thumbnail` keeps it. */
export function thumbnail(image: Raster, side: number): Raster {
  if (image.width <= side && image.height <= side) return image;
  const aspect = image.width / image.height;
  const [width, height] =
    aspect <= 1
      ? [closest(side * aspect, (n) => Math.abs(aspect - n / side)), side]
      : [side, closest(side / aspect, (n) => (n ? Math.abs(aspect - side / n) : 0))];
  return resizeInSteps(image, width, height, "box", 2);
}

/** Returns an image resized after whole-number means that leave `gap` times the size or more. */
export function resizeInSteps(
  image: Raster,
  width: number,
  height: number,
  filter: Filter,
  gap: number,
): Raster {
  const across = Math.trunc(image.width / width / gap) || 1;
  const down = Math.trunc(image.height / height / gap) || 1;
  if (across === 1 && down === 1) return resize(image, width, height, filter);
  const [right, bottom] = [image.width / across, image.height / down];
  const box = { left: 0, top: 0, right, bottom };
  return resize(averageCells(image, across, down), width, height, filter, box);
}

/** Returns the means over cells of whole pixels; those at the far edges may be smaller. */
export function averageCells(image: Raster, across: number, down: number): Raster {
  const { width, height, channels: step, data } = image;
  const channels = Math.min(step, 3);
  const [columns, rows] = [Math.ceil(width / across), Math.ceil(height / down)];
  const means = new Uint8Array(columns * rows * channels);
  const sums = new Int32Array(columns * channels);
  const addRow = channels === 1 ? addRowGrey : addRowRgb;
  for (let row = 0, to = 0; row < rows; row++) {
    const bottom = Math.min(height, (row + 1) * down);
    sums.fill(0);
    for (let y = row * down; y < bottom; y++) addRow(sums, data, y * width * step, image, across);
    for (let column = 0, i = 0; column < columns; column++) {
      const cell = Math.min(across, width - column * across) * (bottom - row * down);
      const multiplier = reciprocal(cell) / 2 ** 24;
      const half = cell >> 1;
      for (const end = i + channels; i < end; i++) means[to++] = (sums[i] + half) * multiplier;
    }
  }
  return { width: columns, height: rows, channels, data: means };
}

type AddRow = (
  sums: Int32Array,
  data: Uint8Array,
  start: number,
  image: Raster,
  across: number,
) => void;

/** Adds a row of a map to the sums of the cells it crosses. */
const addRowGrey: AddRow = (sums, data, start, { width }, across) => {
  for (let x = 0, at = start, cell = 0; x < width; cell++) {
    let sum = 0;
    for (const end = Math.min(width, x + across); x < end; x++) sum += data[at++];
    sums[cell] += sum;
  }
};

/** Adds a row of pixels to the sums of the cells it crosses. */
const addRowRgb: AddRow = (sums, data, start, { width, channels }, across) => {
  for (let x = 0, at = start, cell = 0; x < width; cell += 3) {
    let [red, green, blue] = [0, 0, 0];
    for (const end = Math.min(width, x + across); x < end; x++, at += channels) {
      red += data[at];
      green += data[at + 1];
      blue += data[at + 2];
    }
    sums[cell] += red;
    sums[cell + 1] += green;
    sums[cell + 2] += blue;
  }
};

/** Returns 2²⁴ over a divisor as Pillow has it: divided in single precision, cut off. */
function reciprocal(divisor: number): number {
  return Math.trunc(Math.fround(2 ** 32 / Math.fround(256 * divisor)));
}

function closest(value: number, distance: (side: number) => number): number {
  const [below, above] = [Math.floor(value), Math.ceil(value)];
  return Math.max(1, distance(above) < distance(below) ? above : below);
}
