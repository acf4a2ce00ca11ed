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
  const shares = { ...mask, channels: 1, data: mask.data.map((value) => value * 255) };
  const small = resizeInSteps(shares, width, height, "box", 1);
  return { width, height, data: new Uint8Array(small.data.map((value) => Number(value >= 128))) };
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
  const sums = new Uint32Array(columns * channels);
  for (let row = 0; row < rows; row++) {
    const bottom = Math.min(height, (row + 1) * down);
    sums.fill(0);
    for (let y = row * down; y < bottom; y++) addRow(sums, data, y * width * step, image, across);
    for (let column = 0; column < columns; column++) {
      const cell = Math.min(across, width - column * across) * (bottom - row * down);
      const multiplier = reciprocal(cell);
      for (let c = 0; c < channels; c++) {
        const rounded = sums[column * channels + c] + Math.trunc(cell / 2);
        means[(row * columns + column) * channels + c] = (rounded * multiplier) / 2 ** 24;
      }
    }
  }
  return { width: columns, height: rows, channels, data: means };
}

function addRow(
  sums: Uint32Array,
  data: Raster["data"],
  start: number,
  { width, channels: step }: Raster,
  across: number,
): void {
  const channels = Math.min(step, 3);
  let at = start;
  for (let x = 0, cell = 0, left = across; x < width; x++, at += step) {
    for (let c = 0; c < channels; c++) sums[cell + c] += data[at + c];
    if (--left === 0) {
      left = across;
      cell += channels;
    }
  }
}

/** Returns 2²⁴ over a divisor as Pillow has it: divided in single precision, cut off. */
function reciprocal(divisor: number): number {
  return Math.trunc(Math.fround(2 ** 32 / Math.fround(256 * divisor)));
}

function closest(value: number, distance: (side: number) => number): number {
  const [below, above] = [Math.floor(value), Math.ceil(value)];
  return Math.max(1, distance(above) < distance(below) ? above : below);
}
